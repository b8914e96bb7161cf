"""Proctor: releases exercises and marks what students hand in; knows nothing of attention.

Student code never shares a process with the tests. A check is ordinary Python: in the student's own
notebook the names it calls are the student's functions; under proctor the same names are stand-ins,
and only calls cross, with tensors, numbers and gradients::

    examiner (trusted)                              candidate (walled in), one per submission
    test cells, hidden tests, the reference         the student's own cells, nothing else

    q, k, v = tensors from a seed nobody knows
    out = scaled_dot_product_attention(q, k, v) ──► calls the student's function
    out.sum().backward()                        ◄── results and gradients as raw bytes, checked
    checks.close(out, reference)                    before they are read; nothing is unpickled

Only plain data comes back: tensors with their strides, numbers, text, lists and dicts of these, and
numbers that stand for objects which stay where they are. So a student cannot drop assertions, patch
the checks, answer with an object that is equal to everything, read a hidden test or write a grade:
none of it is where that code runs. What a student's code still can do is answer wrongly, slowly or
not at all, and each of these costs the task that it belongs to and no other:

- A cell or a check that ends the candidate, uses up its CPU time or breaks the protocol ends that
  candidate. Another one replays the earlier cells, without the guilty one.
- A check that failed is made again where the answers to other tasks never ran.
- A check that passed after a call wrote to its arguments is made again with everything as it was
  given, since what it expects may have been computed from what the call left behind.
- What an exercise bans is refused where the source names it and is not to be had in the candidate.

Two walls stand around a candidate. The outer one is a bubblewrap jail around the workers, the inner
one the candidate's own namespaces, budgets and a filter of system calls. Where a machine does not
offer both, :mod:`proctor.walls` lists the levels below; each record names the one it was made at.

What runs where, from the outside in:

- The driver (:mod:`proctor.course`, :mod:`proctor.engine`) finds submissions, gives each to a
  worker, keeps records (:mod:`proctor.store`), writes the gradebook, feedback and report.
- A zygote (:mod:`proctor.zygote`), in a bubblewrap jail where there is one (:mod:`proctor.jail`),
  loads torch once and forks the workers; it is told nothing of the exercise.
- A worker (:mod:`proctor.worker`) takes a submission in (:mod:`proctor.intake`) and marks it
  (:mod:`proctor.grading`).
- Its fork server (:mod:`proctor.forkserver`) was split off before the worker was told the exercise.
  It forks a candidate in milliseconds, behind the inner wall
  (:mod:`proctor.walls`).
- The candidate (:mod:`proctor.candidate`) and the examiner (:mod:`proctor.examiner`) talk over a
  socket (:mod:`proctor.wire`, :mod:`proctor.values`); each is a :class:`proctor.peer.Peer` of the
  other, with :mod:`proctor.objects` and :mod:`proctor.standins` for what lives on the other side.

Time is CPU time, measured from outside; seeds are an HMAC of the course's secret and the student's
cells (:mod:`proctor.seeds`); so a grade depends on the submission and the checks, and on nothing
else.
"""
