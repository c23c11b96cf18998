"""``python -m tests.load.unbatched``: the scores service with group commit turned off, a transaction for each update.

It shows what batching costs an update that has no company: at low load both should answer equally fast.
"""

import functools

from podium.scores import __main__ as service
from podium.scores import app
from podium.scores.batcher import Batcher

if __name__ == "__main__":
    vars(app)["Batcher"] = functools.partial(Batcher, max_batch=1, linger=0.0)
    service.main()
