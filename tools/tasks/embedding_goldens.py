"""Writes expected embeddings and losses, computed by sentence-transformers.

    python tools/tasks/embedding_goldens.py

Needs the extra `parity` and sentence-transformers. Writes to tests/assets/sentence_transformers/:
models of random encoders with the shape of tests/assets/bert_gelu, as saved by
sentence-transformers, each with the embeddings of `TEXTS` in golden.npz; and losses.npz, with
embeddings and losses.
"""

import os
import pathlib
import shutil

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import losses, modules

ASSETS = pathlib.Path(__file__).resolve().parents[2] / "tests" / "assets"
FOLDER = ASSETS / "sentence_transformers"

TEXTS = ["a b c", "", "x", "cab", "zyx abc, a!", "a b c d e f g h i j k l m n o p q r s t u v w"]


def dense(width_in: int, width_out: int, activation: torch.nn.Module, *, bias: bool = True):
    return modules.Dense(width_in, width_out, bias=bias, activation_function=activation)


def models():
    cls = modules.Pooling(16, pooling_mode="cls")
    yield "cls_dense", [cls, dense(16, 12, torch.nn.Tanh()), modules.Normalize()], {}
    both = modules.Pooling(16, pooling_mode=("max", "mean"))
    last = dense(6, 5, torch.nn.Identity(), bias=False)
    yield "max_mean", [both, dense(32, 6, torch.nn.ReLU()), last], {}
    weighted = modules.WeightedLayerPooling(16, num_hidden_layers=2, layer_start=1)
    weighted.layer_weights.data = torch.tensor([0.7, 1.9])
    pooling = modules.Pooling(16, pooling_mode="mean_sqrt_len_tokens")
    yield "weighted_layers", [weighted, pooling], {}
    prompts = {"prompts": {"query": "q a: ", "document": "d "}, "default_prompt_name": "query"}
    yield (
        "prompted",
        [modules.Pooling(16, pooling_mode="mean"), modules.Normalize()],
        prompts | {"truncate_dim": 7},
    )


def write_models() -> None:
    for folder, following, options in models():
        torch.manual_seed(1)
        weighted = isinstance(following[0], modules.WeightedLayerPooling)
        transformer = modules.Transformer(
            str(ASSETS / "bert_gelu"),
            max_seq_length=20,
            config_kwargs={"output_hidden_states": True} if weighted else {},
        )
        for name, parameter in transformer.named_parameters():
            # Large enough to give different embeddings.
            gain = float("LayerNorm.weight" in name)
            torch.nn.init.normal_(parameter, gain, 0.4 if parameter.dim() > 1 else 0.1)
        for module in following:
            if isinstance(module, modules.Dense):
                for parameter in module.parameters():
                    torch.nn.init.normal_(parameter, std=0.5)
        model = SentenceTransformer(modules=[transformer, *following], device="cpu", **options)
        model.save(str(FOLDER / folder), create_model_card=False)
        embedding = model.encode(TEXTS, normalize_embeddings=folder == "prompted")
        document = embedding
        if folder == "prompted":
            document = model.encode(TEXTS, prompt_name="document", normalize_embeddings=True)
        np.savez(FOLDER / folder / "golden.npz", embedding=embedding, document=document)


class Identity(torch.nn.Module):
    """A model that returns its inputs as embeddings."""

    def forward(self, features):
        return {"sentence_embedding": features["x"]}

    def get_embedding_dimension(self):
        return 8


def write_losses() -> None:
    random = np.random.default_rng(0)
    embeddings = random.normal(size=(6, 4, 8)).astype(np.float32)
    scores = np.array([0.2, 0.9, 0.9, -0.5, 0.4, 0.2], np.float32)
    model = Identity()
    ranking = losses.MultipleNegativesRankingLoss
    metric = losses.TripletDistanceMetric
    both = ("query_to_doc", "doc_to_query")
    cases = {
        "ranking_pairs": (2, ranking(model)),
        "ranking_negatives": (4, ranking(model, scale=7.0)),
        "ranking_symmetric": (2, ranking(model, directions=both, partition_mode="per_direction")),
        "ranking_symmetric_negatives": (
            4,
            ranking(model, directions=both, partition_mode="per_direction"),
        ),
        "cosent": (2, losses.CoSENTLoss(model)),
        "cosine": (2, losses.CosineSimilarityLoss(model)),
        "triplet_euclidean": (3, losses.TripletLoss(model)),
        "triplet_cosine": (
            3,
            losses.TripletLoss(model, distance_metric=metric.COSINE, triplet_margin=0.5),
        ),
        "triplet_manhattan": (
            3,
            losses.TripletLoss(model, distance_metric=metric.MANHATTAN, triplet_margin=2.0),
        ),
        "matryoshka_ranking": (
            4,
            losses.MatryoshkaLoss(model, ranking(model), [8, 4, 2], [1.0, 0.5, 2.0]),
        ),
        "matryoshka_cosent": (2, losses.MatryoshkaLoss(model, losses.CoSENTLoss(model), [8, 3])),
    }
    values = {}
    for name, (group, loss) in cases.items():
        columns = [{"x": torch.tensor(embeddings[:, i])} for i in range(group)]
        values[name] = float(loss(columns, torch.tensor(scores)))
        print(name, values[name])
    np.savez(FOLDER / "losses.npz", embeddings=embeddings, scores=scores, **values)


def main() -> None:
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    write_models()
    write_losses()


if __name__ == "__main__":
    main()
