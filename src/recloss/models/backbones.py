"""The backbones by the names that configurations and paths call them."""

from recloss.models.factorization import MatrixFactorization
from recloss.models.graph import NGCF, LightGCN

BACKBONES: dict[str, type[MatrixFactorization]] = {
    "mf": MatrixFactorization,
    "lightgcn": LightGCN,
    "ngcf": NGCF,
}
