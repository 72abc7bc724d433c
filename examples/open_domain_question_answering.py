"""Answer questions from a collection of documents with a retriever and a reader."""

import keras_bert_zoo as kbz
from keras_bert_zoo.data.questions import Answer, QuestionExamples

documents = [
    "The old bridge fell in 1911. The engineer Anna Brandt repaired it two years later.",
    "Every spring some 40,000 cranes rest in the meadows north of the river.",
]
questions = ["Who repaired the bridge?", "How many cranes rest in the meadows?"]
answers = ["Anna Brandt", "40,000"]
examples = QuestionExamples(
    questions=questions,
    contexts=documents,
    answers=[
        [Answer(answer, document.index(answer))]
        for answer, document in zip(answers, documents, strict=True)
    ],
)

reader = kbz.QuestionAnswerer.from_preset("minilm_l6_en_uncased", max_length=64)
reader.fit(examples, epochs=30, learning_rate=5e-4, verbose=0)
embedder = kbz.TextEmbedder.from_preset("minilm_l6_en_uncased")

task = kbz.OpenDomainQuestionAnswerer(embedder, reader, documents)
result = task.predict(["Who repaired the bridge?"])
print(result["answer"][0], result["document_id"][0])
task.save("runs/pages")
