"""The laboratory: experiments made of many runs, carried out on all cores or on a cluster, and told in a report.

In the order in which an experiment goes through it:

- ``kinds``: what one run can be, by name;  ``availability`` is the smallest of them
- ``network``: one scenario;  ``exposure``, with ``rounds`` that were really played;  ``convergence``, with ``learning``
  peers and plain ``gossip``;  ``overhead``, beside what ``paillier`` costs
- ``experiment``: a file -> what to run, checked as a whole;  ``outline``: what its report shows;  ``words``: sentences
  with figures in them
- ``work``: one run, wherever it is done;  ``local``: by processes of this machine;  ``cluster``: by a Dask cluster
- ``journal``: what is finished, durably;  ``runner``: the runs that are not, until all are
- ``table``: results as CSV and Parquet;  ``summary``: means and standard errors;  ``plots``, ``report``: for people
- ``study``: all of it, in one directory;  ``extras``: libraries that may be missing

Beside experiments, ``worlds`` judges random worlds on all cores.  ``garbage`` is not looked for while worlds run.

``evaluation`` holds the experiment files that are part of the package.

Neighbours: ``commands.simulate`` is in front; kinds run ``protocol.simulation`` and the rest of ``protocol``.
Invariants: one seed gives the same tables and report, byte for byte, whatever the number of processes, the order in
which they finish, and however often they were interrupted; times and machines stand in ``run-info.json`` alone.
"""
