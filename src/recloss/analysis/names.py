"""Names as the papers write them, for all that a person reads; CSV and paths keep identifiers."""

from recloss.experiment.schema import BACKBONE, CONTROL, LINEAR

UNNAMED = (BACKBONE, LINEAR, CONTROL)  # backbones that go without saying
NAMES = {
    # data sets
    "amazon-book": "Amazon-Books",
    "yelp2018": "Yelp2018",
    "gowalla": "Gowalla",
    "amazon-cds": "Amazon-CDs",
    "ml-1m": "MovieLens-1M",
    "amazon-electronics": "Amazon-Electronics",
    "coat": "Coat",
    # backbones
    "mf": "MF",
    "lightgcn": "LightGCN",
    "ngcf": "NGCF",
    # losses, linear models, controls
    "bpr": "BPR",
    "softmax": "Softmax",
    "infonce": "InfoNCE",
    "infonce_plus": "InfoNCE+",
    "dcl": "DCL",
    "mine": "MINE",
    "mine_plus": "MINE+",
    "debiased_infonce": "debiased InfoNCE",
    "mse": "MSE",
    "debiased_mse": "debiased MSE",
    "ccl": "CCL",
    "debiased_ccl": "debiased CCL",
    "ials": "iALS",
    "ease": "EASE",
    "popularity": "ItemPop",
    "random": "Random",
    # who claims a certificate
    "printed": "as printed",
    # metrics
    "recall@20": "Recall@20",
    "ndcg@20": "NDCG@20",
    "recall@50": "Recall@50",
    "ndcg@50": "NDCG@50",
    "auc": "AUC",
    "ndcg@5": "NDCG@5",
    "coverage@20": "Coverage@20",
    "gini@20": "Gini@20",
    # columns
    "dataset": "data set",
    # settings
    "lambda": "λ",
    "eps": "ε",
    "lambda_n": "λₙ",
    "prior": "prior τ⁺",
    "tau": "τ⁺",
    "kappa": "κ",
    "nu": "ν",
    "alpha0": "α₀",
    "temperature": "temperature t",
    "negatives": "negatives N",
    "extra_positives": "extra positives M",
    "margin": "margin m",
    "weight": "weight w",
    "dim": "dimension D",
    "l2": "L2",
}
# How the papers sort the losses: what a positive is compared with.
FAMILIES = {
    "listwise": (
        *("infonce", "infonce_plus", "mine", "mine_plus", "softmax", "dcl", "debiased_infonce"),
    ),
    "pairwise": ("bpr",),
    "pointwise": ("mse", "ccl", "debiased_mse", "debiased_ccl"),
    "linear": ("ials", "ease"),
}


def family_of(loss: str, backbone: str = "") -> str:
    """Return `listwise`, `pairwise`, `pointwise`, `linear`, `control` or, of one's own, `other`."""
    if backbone == CONTROL or loss in ("popularity", "random"):
        return CONTROL
    found = (family for family, losses in FAMILIES.items() if loss in losses)
    return next(found, LINEAR if backbone == LINEAR else "other")


def name_of(identifier: str) -> str:
    """Return the name of a data set, model, metric or setting; what has none keeps its own."""
    return NAMES.get(identifier, identifier)


def model_name(model: str, backbone: str) -> str:
    """Return the name of a model, with its backbone where that is not the papers'."""
    return name_of(model) if backbone in UNNAMED else f"{name_of(model)} on {name_of(backbone)}"


def place_name(dataset: str, backbone: str) -> str:
    """Return the name of a data set, with the backbone where that is not the papers'."""
    return name_of(dataset) if backbone in UNNAMED else f"{name_of(dataset)} ({name_of(backbone)})"


def header(text: str) -> str:
    """Return the title of a column or an axis, such as `test recall@20` or `batch_size`."""
    words = NAMES.get(text, text.replace("_", " ")).split()
    return " ".join(NAMES.get(word, word) if "@" in word else word for word in words)
