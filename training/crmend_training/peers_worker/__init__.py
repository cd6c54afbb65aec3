"""One run of one method on one frame: a script of its own, ``python peers_worker JOB.json``.

It runs in whatever environment holds the method, so nothing here imports crmend at the top:
only the methods of crmend itself do, inside their functions.  `finders` holds detection,
`fillers` mending.
"""
