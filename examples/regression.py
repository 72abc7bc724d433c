"""Fine-tune a regressor that scores the similarity of two sentences."""

import keras_bert_zoo as kbz

first = ["A man plays a guitar.", "A cat sleeps.", "Two dogs run.", "It rains."]
second = ["Someone plays music.", "A plane lands.", "Dogs are running.", "A chef cooks soup."]
scores = [0.9, 0.0, 0.9, 0.0]

task = kbz.TextRegressor.from_preset("minilm_l6_en_uncased")
task.fit((first, second), scores, epochs=10, learning_rate=3e-4, verbose=0)

report = task.report((first, second), scores)
print("mean absolute error below 0.3:", report.mean_absolute_error < 0.3)
print(task.predict((["A man plays a guitar."], ["Someone plays music."]))["score"].shape)
task.save("runs/similarity")
