# %% [markdown]
# # Numbers
#
# A small exercise of two tasks: what the corpus of hostile files answers.

# %% setup=true
import math

# %% [markdown] task="double" difficulty=1 minutes=1
# ## Twice as much


# %% answer="double"
def double(x):
    """Twice a number."""
    ### BEGIN SOLUTION
    return 2 * x
    ### END SOLUTION


# %% check="double__small" points=1
result = double(3)
assert result == 6, f"double(3) is 6, not {result}"

# %% check="double__others" points=2
# Hidden: other numbers.
### BEGIN HIDDEN TESTS
for x in (0, -1.5, math.pi):
    assert double(x) == x + x, f"double({x}) is {x + x}"
### END HIDDEN TESTS

# %% [markdown] task="half" difficulty=1 minutes=1
# ## Half as much


# %% answer="half"
def half(x):
    """Half of a number."""
    ### BEGIN SOLUTION
    return x / 2
    ### END SOLUTION


# %% check="half__even" points=1
result = half(8)
assert result == 4, f"half(8) is 4, not {result}"

# %% check="half__odd" points=2
# Hidden: odd numbers.
### BEGIN HIDDEN TESTS
for x in (1, -3, 7):
    assert half(x) == x * 0.5, f"half({x}) is {x * 0.5}"
### END HIDDEN TESTS

# %%
print("a quarter of 12 is", half(half(12)))
