"""The parts of ``make bench``: what is compared, how it is timed, and the bars to be met."""
