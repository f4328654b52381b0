"""The HTTP front: any endpoint by curl, JSON in, NDJSON or server-sent events out.

command      the program: settings, listening, leaving in order
server       serves on a socket of ours until it is told to leave
connections  hypercorn's, bounded
app          which path goes where (ASGI)
exchange     one request and its answer, which never looks whole if it is not
incoming     a request's JSON and options, read within limits
calls        one call: its status, its items, its end; cancelled when the client hangs up
forms        how items, an error and the end are written
problems     which HTTP status an error has
endpoints    which endpoints are offered, and their clients
metrics      what is counted
"""
