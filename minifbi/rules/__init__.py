"""Rules of layer-wise relevance propagation (LRP), as differentiable computations.

The paper's relevance pass, Eq. (2), is LRP-0 in every layer.  Here are the other rules of the
literature, one small class each with its formula, and composites that give each kind of layer its
rule.  All are made of operations on the tape, so
that the FBI loss can be trained with any of them.

Sources
-------
- Bach et al., On pixel-wise explanations for non-linear classifier decisions by layer-wise
  relevance propagation, PLoS ONE 10(7), 2015: LRP-0, epsilon, alpha-beta.
- Montavon et al., Explaining nonlinear classification decisions with deep Taylor decomposition,
  Pattern Recognition 65, 2017: z+, w-square, z-box.
- Montavon et al., Layer-wise relevance propagation: an overview, in Explainable AI, LNCS 11700,
  2019: gamma, and a rule for each depth.
- Lapuschkin et al., Unmasking Clever Hans predictors and assessing what machines really
  learn, Nature Communications 10, 2019: flat.
- Kohlbrenner et al., Towards best practice in explaining neural network decisions with LRP,
  IJCNN 2020: composites.
- Andéol et al., Learning domain invariant representations by joint Wasserstein distance
  minimization, 2021: gamma for inputs and outputs of both signs.
- Achtibat et al., From attribution maps to human-understandable explanations through concept
  relevance propagation, Nature Machine Intelligence 5, 2023: relevance through chosen channels.
- Springenberg et al., Striving for simplicity: the all convolutional net, ICLR workshop 2015:
  guided backpropagation.
"""

from minifbi.rules.composite import RULES, Composite, get_rule
from minifbi.rules.flow import Book, Flow, Rule
from minifbi.rules.passage import Passage, walk
from minifbi.rules.proportional import AlphaBeta, Epsilon, Gamma, Guided, Zero, ZPlus
from minifbi.rules.spread import Flat, WSquare, ZBox

__all__ = ["RULES", "AlphaBeta", "Book", "Composite", "Epsilon", "Flat", "Flow", "Gamma"]
__all__ += ["Guided", "Passage", "Rule", "WSquare", "ZBox", "ZPlus", "Zero", "get_rule", "walk"]
