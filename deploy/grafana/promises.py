"""Define the row of promises: what is certified, and what audits of answers see of it."""

from __future__ import annotations

from deploy.grafana.panel import MODEL, RATIO, Panel, Row, rate

AUDITS = rate("audit_flops_total", where=MODEL)


def _promise(name: str) -> str:
    """Return a gauge of promises, the largest over the replicas."""
    return f"max by (budget) (offramp_promise_{name}{{{MODEL}}})"


PROMISES = Row(
    "Promises",
    (
        Panel(
            "State of promises",
            "short",
            "Servers in each state. unproven: too few audits so far. held: audits support it. "
            "broken, safer, full: see OfframpPromiseBroken. Empty without --audit.",
            (
                (
                    f"sum by (budget, state) (offramp_promise_state{{{MODEL}}}) > 0",
                    "{{budget}}: {{state}}",
                ),
            ),
            24,
            "state",
        ),
        Panel(
            "Disagreement with full depth: seen, its bounds, and certified (dashed)",
            RATIO,
            "All three lines of a promise should be below its dashed line. The lower bound above "
            "it: the promise is broken, certify again on images of today.",
            (
                (_promise("disagreement"), "{{budget}} seen"),
                (_promise("disagreement_low"), "{{budget}} at least"),
                (_promise("disagreement_high"), "{{budget}} at most"),
                (_promise("epsilon"), "{{budget}} limit"),
            ),
        ),
        Panel(
            "Audits with a result, and how many a promise needs (dashed)",
            "short",
            "Below the dashed line audits cannot support the promise. If the line hardly rises, "
            "raise OFFRAMP_AUDIT, or look at Audits by result.",
            (
                (_promise("audits"), "{{budget}}"),
                (_promise("audits_needed"), "{{budget}} limit"),
            ),
        ),
        Panel(
            "Audits by result",
            "cps",
            "Audits that were dropped count against a proof. Reason slot: add slots or replicas. "
            "cut_short: clients allow too little time, or the server is overloaded.",
            (
                (rate("audit_total", "agrees", MODEL), "agrees {{agrees}}"),
                (rate("audit_dropped_total", "reason", MODEL), "dropped {{reason}}"),
            ),
            kind="stacked",
        ),
        Panel(
            "Flops of audits, share of all flops",
            RATIO,
            "Cost of auditing, in free slots while no request waits. Lower OFFRAMP_AUDIT if it "
            "is too much.",
            ((f"{AUDITS} / ({AUDITS} + {rate('flops_spent_total', where=MODEL)})", "audits"),),
        ),
    ),
)
