"""Claims made by the line, for the tests of what reads, judges and plans them."""

from typing import Any

from repro.book.claims import ChapterClaims

METRIC = "accuracy minus that of the dense network"


def deciding_test(
    name: str = "dense", claim: str = "above 0", margin: float | None = 0.5, **more: Any
) -> dict[str, Any]:
    said = {
        "name": name,
        "metric": METRIC,
        "unit": "points",
        "claim": claim,
        "margin": margin,
        "why": "it matters",
    }
    said |= {"seeds": "runs", "scale": "small"} | more
    return {key: value for key, value in said.items() if value is not None}


def claim(claim_id: str, *deciding: dict[str, Any], kind: str = "empirical", **more: Any) -> dict[str, Any]:
    said = {"id": claim_id, "statement": "It rises.", "where": "abstract", "kind": kind}
    return said | {"deciding": list(deciding)} | more


def content(*claims: dict[str, Any], **runs: int) -> dict[str, Any]:
    """A file of claims with so many runs in each profile."""
    each = {"smoke": 2, "quick": 10, "full": 65, "paper": 65} | runs
    first = {"smoke": 0, "quick": 500_000, "full": 10_000, "paper": 10_000}
    return {
        "chapter": "toy",
        "paper": {"title": "T", "authors": "A", "key": "k2020"},
        "budget": {profile: {"seconds": 60, "memory_mb": 500} for profile in each},
        "profiles": {
            profile: {"runs": n, "rate": 0.1, "seed": first[profile]} for profile, n in each.items()
        },
        "claims": list(claims),
    }


def chapter(*claims: dict[str, Any], **runs: int) -> ChapterClaims:
    return ChapterClaims.model_validate(content(*claims, **runs))
