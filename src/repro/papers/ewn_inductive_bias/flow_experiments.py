"""The theory's experiments in one place: what the chapter calls for claims E1 to E8 and E10 to E12.

=========================  ===============================  =======================================
``flow_identity``          E1, E2                           parameter flow against weight flow
``euler_convergence``      E3                               descent against flow
``lin_sep_flows``          E4 to E6, E8, E12                flows to a vanishing loss; hand the runs to
                                                            ``alignment_table``, ``relation_table``,
                                                            ``pair_table``, ``bound_table``
``simple_trajectories``    E7                               two weights, solved exactly
``rate_exponents``         E10                              exponent of the rate by depth
``depth_curves``           E11                              loss curves by depth, ``depth_ratios``
=========================  ===============================  =======================================
"""

from repro.papers.ewn_inductive_bias.depth_experiments import depth_curves, depth_ratios, rate_exponents
from repro.papers.ewn_inductive_bias.flow_identity import euler_convergence, flow_identity
from repro.papers.ewn_inductive_bias.lin_sep_flows import (
    LinSepRun,
    alignment_table,
    bound_table,
    lin_sep_flows,
    node_table,
    pair_table,
    relation_table,
    trajectory_table,
)
from repro.papers.ewn_inductive_bias.two_weights import exact_point, loser_limit, simple_trajectories

__all__ = [
    "LinSepRun",
    "alignment_table",
    "bound_table",
    "depth_curves",
    "depth_ratios",
    "euler_convergence",
    "exact_point",
    "flow_identity",
    "lin_sep_flows",
    "loser_limit",
    "node_table",
    "pair_table",
    "rate_exponents",
    "relation_table",
    "simple_trajectories",
    "trajectory_table",
]
