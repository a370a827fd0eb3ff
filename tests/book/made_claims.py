"""Claims made by the line, for the tests of what reads, judges and plans them."""

from repro.book.claims import ChapterClaims

METRIC = "accuracy minus that of the dense network"


def deciding_test(name="dense", claim="above 0", margin=0.5, **more):
    said = {"name": name, "metric": METRIC, "unit": "points", "claim": claim, "margin": margin}
    said |= {"why": "it matters", "seeds": "runs", "scale": "small"} | more
    return {key: value for key, value in said.items() if value is not None}


def claim(claim_id, *deciding, kind="empirical", **more):
    said = {"id": claim_id, "statement": "It rises.", "where": "abstract", "kind": kind}
    return said | {"deciding": list(deciding)} | more


def content(*claims, **runs):
    """A file of claims with so many runs in each profile."""
    each = {"smoke": 2, "quick": 10, "full": 65, "paper": 65} | runs
    first = {"smoke": 0, "quick": 500_000, "full": 10_000, "paper": 10_000}
    return {
        "chapter": "toy",
        "paper": {"title": "T", "authors": "A", "key": "k2020"},
        "budget": {profile: {"seconds": 60, "memory_mb": 500} for profile in each},
        "profiles": {p: {"runs": n, "rate": 0.1, "seed": first[p]} for p, n in each.items()},
        "claims": list(claims),
    }


def chapter(*claims, **runs):
    return ChapterClaims.model_validate(content(*claims, **runs))
