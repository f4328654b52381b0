"""An endpoint to try it with: `{"n": 3}` gives three items."""


async def generate(request):
    for i in range(request["n"]):
        yield {"i": i}
