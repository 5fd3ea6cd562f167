"""What every number means, in one sentence each; the long form with worked examples is docs/metrics.md."""

from __future__ import annotations

_TIES_AND_NOTHING = " Ties by id; no value where R is 0."
"""Ends the definition of every metric of a query."""


def _of_average_precision(k: int) -> dict[str, str]:
    head = f"Mean of the sum of precision at each relevant rank of the first {k} hits, divided by"
    return {
        f"mAP@{k}": f"{head} min(R, {k}).",
        f"mAP@{k}/R": f"{head} R (trec_eval: map_cut).",
        f"mAP@{k}/k": f"{head} {k}, even where fewer are relevant.",
        f"mAP@{k}/hits": f"{head} the relevant hits found among them, 0 where there are none: reads high.",
        f"mAP@{k}/skip": f"{head} {k}, over queries with R of at least {k} only; the others have no value.",
    }


_OF_A_QUERY: dict[str, str] = {
    "mAP": (
        "Mean over all queries of average precision: the sum of the precision at the rank of each relevant "
        "hit, divided by R, all relevant records of the gallery; relevant records not retrieved count 0 "
        "(trec_eval)."
    ),
    "mAP_seed_compatible": (
        "As mAP, but divided by the whole class in the data base, gallery and queries together (reading B "
        "of the paper's eq. 11): a perfect ranking reaches the gallery's share of its class, 0.70 for a "
        "70/30 split."
    ),
    **_of_average_precision(5),
    **_of_average_precision(10),
    "mAP/hits": (
        "As mAP, but divided by the relevant hits found, 0 where there are none: above mAP wherever a gate hides "
        "relevant records."
    ),
    "mAP@R": "Mean of the sum of precision at each relevant rank of the first R hits, divided by R.",
    "mAP_11pt": "Mean of the 11-point curve: of the interpolated precision at recall 0, 0.1 ... 1.",
    "R-precision": "Relevant among the first R hits, divided by R; precision and recall are equal there.",
    "MRR": "Mean of 1 / rank of the first relevant hit, 0 where there is none.",
    "ANMRR": (
        "Mean of MPEG-7's normalised modified retrieval rank; 0 is perfect, 1 finds nothing in time. K = min(4 R, "
        "2 GTM), GTM the largest R of all queries; a relevant record after rank K or absent counts as rank 1.25 K; "
        "(mean rank - (R + 1) / 2) / (1.25 K - (R + 1) / 2)."
    ),
    "bpref": (
        "Sum over relevant hits of 1 - min(n, R) / min(N, R), divided by R: n are the hits above it judged not "
        "relevant, N all records judged so; a hit without a label is passed over (trec_eval)."
    ),
    "P@1": "Share of queries whose first hit is relevant.",
    **{
        f"P@{k}": f"Relevant among the first {k} hits, divided by {k} even where the gate leaves fewer (eq. 10)."
        for k in (5, 10, 20)
    },
    **{
        f"P@min({k},R)": f"Relevant among the first min({k}, R) hits, divided by min({k}, R): modified precision."
        for k in (5, 10)
    },
    **{
        f"recall@{k}": f"Relevant among the first {k} hits, divided by R (eq. 11; set recall, not hit rate)."
        for k in (5, 10, 20, 100)
    },
    **{f"hit@{k}": f"Share of queries with a relevant hit among the first {k} (CMC, ACC@{k})." for k in (5, 10)},
    **{
        f"MMV@{k}": f"Share of queries whose class wins the vote of the first {k} hits; a tied vote goes to the "
        "nearest, a hit without a label has none."
        for k in (3, 5, 10)
    },
    "nDCG@10": (
        "Sum of 1 / log2(rank + 1) over the relevant of the first 10 hits, divided by the same sum for "
        "min(R, 10) relevant hits in front."
    ),
    "nDCG@10_graded": (
        "Sum of grade / log2(rank + 1) over the first 10 hits, divided by the same sum with the highest grades in "
        "front. Grade 2: the query's class and modality; 1: its class. With another label column, 2: its class and "
        "value there; 1: its class alone."
    ),
}

_OF_MANY: dict[str, str] = {
    "mAP_macro": "The mean over classes of the mean average precision of the class's queries.",
    "GMAP": "Geometric mean of average precision over queries, values below 0.00001 taken as that (trec_eval).",
    "pr_curve": (
        "At 101 recall levels 0, 0.01 ... 1 the highest precision at that recall or more, 0 where the "
        "ranking never reaches it, averaged over queries."
    ),
    "pr_11": "The curve pr_curve at recall 0, 0.1 ... 1.",
    "macro": "Of each metric the mean over classes (or values of the column that judges) of the mean over its queries.",
    "macro_ci95": "ci95 of the means over classes; a class that a draw lacks is left out of that draw.",
    "n_queries_measured": "How many queries have a value; the means are over these.",
    "ci95": (
        "2.5 and 97.5 percentile over bootstrap draws of patients (all queries of a drawn patient come together)."
    ),
    "top1": "Share of queries whose likeliest class is their label.",
    "macro_precision": "Mean over classes of TP / (TP + FP) (eq. 6); a class never predicted counts 0.",
    "macro_recall": (
        "Mean over classes of TP / (TP + FN) (eq. 7, where the paper prints TN for FN); the mean diagonal "
        "of Table 1, which the paper calls accuracy."
    ),
    "F1": "Harmonic mean of macro_precision and macro_recall (eq. 9).",
    "accuracy_eq8": (
        "Mean over classes of (TP + TN) / (TP + TN + FP + FN) (eq. 8): nearly 1 whenever there are many "
        "classes, so never compare it with top1."
    ),
    "confusion": "Counts; rows are labels, columns are predicted classes.",
    "ECE": (
        "Expected calibration error: 15 bins of equally many predictions by their probability; the mean over bins, by "
        "their share, of |mean probability - share that came true|."
    ),
    "ECE_width": "As ECE, with 15 bins of equal width in probability (Guo et al. 2017).",
    "Brier": "Mean of (probability - outcome)^2, the outcome 1 where it came true and 0 elsewhere.",
    "reliability": (
        "Of each bin of ECE its share, mean probability (told) and share that came true. Of the posterior: its "
        "likeliest class, and whether that is the label. Of the score: the first 10 hits without a gate, and whether "
        "they have the query's class; every query weighs the same."
    ),
    "flagged": "Share of queries told to be unlike the gallery (in_distribution false).",
    "AUROC": (
        "How often an image that does not belong is farther from the gallery than one that does; a tie counts half. "
        "1/2 is chance."
    ),
    "relevant": (
        "A gallery record is relevant when it has the query's class; with another label column, when it "
        "has the query's class and value there; unlabelled records are not relevant."
    ),
    "R": "All relevant records of the gallery that the query may see, found or not; its own patient's are hidden.",
    "ties": "Hits at the same distance are ranked by their id, which is a keyed hash: the same order in every run.",
    "n_queries_without_relevant": "Queries with nothing relevant in the gallery: left out of every retrieval mean.",
    "paired_test": (
        "Two-sided p of a randomisation test of the difference between two methods: each patient's summed "
        "difference changes sign at random; Holm's correction over all pairs tested together."
    ),
    "gallery_size": (
        "The same queries in random parts of the gallery by whole patients: mean and standard deviation over draws."
    ),
}

DEFINITIONS: dict[str, str] = {name: text + _TIES_AND_NOTHING for name, text in _OF_A_QUERY.items()} | _OF_MANY
