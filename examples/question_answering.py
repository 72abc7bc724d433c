"""Fine-tune a question answerer on SQuAD-style data and cut an answer out of a context."""

import json
from pathlib import Path

import keras_bert_zoo as kbz
from keras_bert_zoo.data.squad import read_squad

context = "The old bridge fell in 1911. The engineer Anna Brandt repaired it two years later."
questions = {
    "Who repaired the bridge?": "Anna Brandt",
    "When did the bridge fall?": "1911",
    "What fell in 1911?": "The old bridge",
}
qas = [
    {
        "id": str(number),
        "question": question,
        "answers": [{"text": answer, "answer_start": context.index(answer)}],
    }
    for number, (question, answer) in enumerate(questions.items())
]
Path("runs").mkdir(exist_ok=True)
squad = {"version": "1.1", "data": [{"paragraphs": [{"context": context, "qas": qas}]}]}
Path("runs/squad.json").write_text(json.dumps(squad), "utf-8")

examples = read_squad("runs/squad.json")
task = kbz.QuestionAnswerer.from_preset("minilm_l6_en_uncased", max_length=64)
task.fit(examples, epochs=30, learning_rate=5e-4, verbose=0)

answers = task.predict((["Who repaired the bridge?"], [context]))
print(answers["answer"][0], answers["start_character"][0], answers["end_character"][0])
task.save("runs/reader")
