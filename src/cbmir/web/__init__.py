"""One gallery over HTTP: the API below /api/v1, and the page, which does everything through it.

    request --server--> limits --> who asks --> route --> gallery, jobs, search --> response
            (server.py) (guards.py, security.py)        (as the command line calls them)

Nothing here decides how images are found. What a request may do is said in security.py, what goes wrong in problems.py.
"""
