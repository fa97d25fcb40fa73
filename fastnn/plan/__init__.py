"""The plan: a model, traced once, fused, and run in a few native calls a step.

trace         the graph of operators, written down without computing
handlers      signal handlers that run meanwhile
shapes        what shape comes out of an operator, and whether each image is computed by itself
code          which names stand in functions, and whose code they are
places        somewhere that values are read from, and whether they have changed
reach         a walk to what else the model's code can read: attributes, closures, globals, random generators
structure     whether layers and places are still what they were
keep          tensors that forward leaves in attributes, and what the next call finds there
steady        traced twice: whether every call does the same
hooked        functions that wait for gradients, as operators
fuse          operators become stages: a chain of convolutions, a dense layer, the loss
order         in which stages run
regions       graphs of convolutions and of what lies between them
region_stage  regions as the kernels take them, and in words
native        stages as the kernels take them
memory        the arrays of a plan, and copies of those that a failed step puts back
tables        what Normalize makes of each byte
emit          the kernels that a lowered operator is made of, on views of the plan's memory
rules         how each operator is lowered; kernel_rules: those with kernels of their own
interpret     operators that stay in Python: a user's own, and those on other types than float32
lower         stages with their arrays, and all gradients on their way back
execute       the lowered stages of one shape as programs, and how they are run
accumulation  sums of several batches' gradients
update        the optimiser's step by kernels
stepping      what follows on backward: clipping, accumulation, the update
fewest        how many images a model needs at a time
epoch         an epoch of steps
executions    plans of one model by shape, made when first needed
predictor     what compile(model) returns
taped         compile(model) called with tensors: forward and backward as one operator of the tape
step          what compile(model, loss) returns
release       their memory, given back
describe      a plan in words
compile       the public function
"""

from fastnn.plan.compile import compile
from fastnn.plan.fuse import FUSIONS

__all__ = ["FUSIONS", "compile"]
