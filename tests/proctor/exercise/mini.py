# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Three small tasks
#
# A function of tensors, a module that uses it, and a function that draws.

# %% setup=true
import torch
from torch import nn

from lookback import checks

checks.ban("torch.nn.functional.scaled_dot_product_attention", "torch.nn.LSTM", "lookback.masks")

# %% [markdown] task="soft_rows" difficulty=1 minutes=5
# ## Rows that sum to one


# %% answer="soft_rows"
def soft_rows(x, mask=None):
    """Softmax over the last axis; closed entries, and rows with nothing open, are zero."""
    ### BEGIN SOLUTION
    if mask is None:
        return x.softmax(-1)
    empty = ~mask.any(-1, keepdim=True)
    x = x.masked_fill(~mask, float("-inf")).masked_fill(empty, 0.0)
    return x.softmax(-1).masked_fill(~mask, 0.0)
    ### END SOLUTION


# %% check="soft_rows__numbers" points=2
torch.manual_seed(0)
x = torch.randn(2, 3)
with checks.unchanged(x=x):
    checks.close(soft_rows(x), x.softmax(-1), what="the rows")

# %% check="soft_rows__gradient" points=1
# Hidden: gradients and masks.
### BEGIN HIDDEN TESTS
hidden_marker = "only the examiner knows"
g = torch.Generator().manual_seed(3)
x = torch.randn(4, 5, generator=g, dtype=torch.float64, requires_grad=True)
mask = torch.rand(4, 5, generator=g) < 0.6
mask[1] = False
out = soft_rows(x, mask)
wanted = x.masked_fill(~mask, float("-inf")).softmax(-1).nan_to_num(0.0)
checks.close(out, wanted, what="masked rows")
checks.gradients(soft_rows(x), x.softmax(-1), {"x": x}, what="the rows")
### END HIDDEN TESTS

# %% check="soft_rows__views" points=1
# Hidden: other shapes and strides.
### BEGIN HIDDEN TESTS
for shape in [(1,), (3, 1), (2, 3, 4), (0, 3)]:
    x = torch.randn(shape)
    checks.close(soft_rows(x), x.softmax(-1), what=f"rows of {shape}")
x = torch.randn(4, 6).T
checks.close(soft_rows(x), x.softmax(-1), what="rows of a transposed tensor")
### END HIDDEN TESTS

# %% [markdown] task="Mixer" difficulty=2 minutes=10 builds_on="soft_rows"
# ## A module


# %% answer="Mixer"
class Mixer(nn.Module):
    """Rows of a linear layer's output, by soft_rows; its layer is named W."""

    ### BEGIN SOLUTION
    def __init__(self, D):
        super().__init__()
        self.W = nn.Linear(D, D)

    def forward(self, x):
        return soft_rows(self.W(x))

    ### END SOLUTION


# %% check="Mixer__numbers" points=2
def reference(x, mask=None):
    return x.softmax(-1)


with checks.given(soft_rows=reference):
    mixer = Mixer(4)
    x = torch.randn(3, 4)
    checks.close(mixer(x), mixer.W(x).softmax(-1), what="the output")


# %% check="Mixer__gradient" points=1
# Hidden: gradients of the parameters.
### BEGIN HIDDEN TESTS
def reference(x, mask=None):
    return x.softmax(-1)


with checks.given(soft_rows=reference):
    mixer = Mixer(3).double()
    twin = nn.Linear(3, 3).double()
    twin.load_state_dict({n.removeprefix("W."): p for n, p in mixer.state_dict().items()})
    x = torch.randn(5, 3, dtype=torch.float64)
    (mixer(x) ** 2).sum().backward()
    (twin(x).softmax(-1) ** 2).sum().backward()
    checks.close(mixer.W.weight.grad, twin.weight.grad, what="the gradient of W")
### END HIDDEN TESTS

# %% [markdown] task="draw" difficulty=1 minutes=5
# ## A function that draws


# %% answer="draw"
def draw(p, n, generator=None):
    """n indices drawn with the probabilities p, by the generator that is given."""
    ### BEGIN SOLUTION
    return torch.multinomial(p, n, replacement=True, generator=generator)
    ### END SOLUTION


# %% check="draw__frequencies" points=1
p = torch.tensor([0.1, 0.2, 0.7])
found = draw(p, 2000, generator=torch.Generator().manual_seed(0)).bincount(minlength=3) / 2000
checks.close(found, p, what="the frequencies", atol=0.06, rtol=0.0)

# %% check="draw__repeatable" points=2
# Hidden: the generator decides, and moves on.
### BEGIN HIDDEN TESTS
p = torch.full((50,), 0.02)
a = draw(p, 20, generator=torch.Generator().manual_seed(5))
generator = torch.Generator().manual_seed(5)
checks.close(draw(p, 20, generator=generator), a, what="a second draw from the same seed")
assert not torch.equal(draw(p, 20, generator=generator), a), "the generator did not move on"
### END HIDDEN TESTS
