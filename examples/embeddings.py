"""Fine-tune sentence embeddings on pairs and search documents with them."""

import keras_bert_zoo as kbz

questions = ["My card is gone", "How do I add money?", "Can I pay in euros?"]
documents = ["Replace a lost card", "Top up by bank transfer", "Supported currencies"]

embedder = kbz.TextEmbedder.from_preset("minilm_l6_en_uncased")
embedder.fit((questions, documents), epochs=2, learning_rate=5e-5, verbose=0)
print(embedder.embed(["Where is my card?"]).shape)

search = embedder.index(documents, top_k=1)
print(search.predict(["I lost my card"])["document"][0, 0])
embedder.save("runs/search")
