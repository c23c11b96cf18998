"""`python -m podium_operator`: run the operator until SIGTERM."""

import asyncio
import logging

import kopf
import structlog

from podium_operator.handlers import Operator, register
from podium_operator.settings import OperatorSettings


def _log_as_json(level: str) -> None:
    """Everything, kopf's own messages included, as one JSON object a line."""
    shared = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,  # type: ignore[arg-type]
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, structlog.processors.JSONRenderer()],
    )
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)
    logging.getLogger("asyncio").setLevel(logging.WARNING)


def main() -> None:
    """Run until a signal comes."""
    settings = OperatorSettings()  # type: ignore[call-arg]  # from the environment
    _log_as_json(settings.log_level)
    namespaces = settings.namespaces()
    asyncio.run(
        kopf.operator(
            registry=register(Operator(settings)),
            clusterwide=not namespaces,
            namespaces=namespaces,
            standalone=True,
        )
    )


if __name__ == "__main__":
    main()
