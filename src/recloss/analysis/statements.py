"""What is certified: in whose words a statement stands, and what is right where print is wrong."""

PRINTED, CORRECTED, SECOND_FORM = "printed", "corrected", "second form"
RIGHT = {
    "Theorem 1, joint problem": "λ′ = λ / c, both factors times √(1 − α₀)",
    "Theorem 2, Eq. 28": "α = (c − 1) / c",
    "Theorem 2, Eq. 29": "α = (c − 1) / c, that is c times EASE: of c λ for the penalty of Eq. 28, "
    "of the same λ for that of the debiased objective",
}
