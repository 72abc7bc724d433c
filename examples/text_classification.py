"""Fine-tune a text classifier on a CSV file, measure it, save it and export it."""

import keras_bert_zoo as kbz
from keras_bert_zoo.data.labels import LabelMap
from keras_bert_zoo.data.tables import read_table

train = read_table("tools/data/banking77/train.csv.gz", label="category")[:400]
train, dev = train.split(0.2, seed=0)

task = kbz.TextClassifier.from_preset("minilm_l6_en_uncased", labels=LabelMap.learn(train).names)
task.fit(train, validation_data=dev, epochs=1, probe_epochs=30, learning_rate=1e-4, verbose=0)

report = task.report(dev)
print("accuracy above 0.7:", report.accuracy > 0.7)

answers = task.predict(["Where is my new card?"])
print(sorted(answers))

task.save("runs/classifier")
task.export("saved_models/classifier")
