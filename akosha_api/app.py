"""Assembles the service: routes, error handlers, and a lifespan that starts and stops its parts."""

import gc
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from fastapi import FastAPI
from fastapi.middleware.gzip import GZipMiddleware

from akosha_api import errors
from akosha_api.alert_loop import AlertLoop
from akosha_api.app_state import AppState, Pool
from akosha_api.inbox_check import InboxCheck
from akosha_api.mcp import route as mcp
from akosha_api.metrics import RequestMetrics
from akosha_api.operator_check import OperatorCheck
from akosha_api.problems import MEDIA_TYPE, Problem
from akosha_api.recall_monitor import RecallMonitor
from akosha_api.request_middleware import RequestMiddleware
from akosha_api.routes import (
    alerts,
    bulk,
    docs,
    explain,
    health,
    ingestion,
    memories,
    metrics,
    page,
    search,
    shutdown,
    systems,
    uploads,
)
from akosha_api.searchable_loop import SearchableLoop
from akosha_api.settings import ApiSettings
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.embeddings import Embedder
from akosha_assets.lake.errors import EmbeddingUnavailable
from akosha_assets.lake.ingestion.ledger import known_tables
from akosha_assets.lake.request_guard import RequestGuard, Routes, parse_hosts, parse_origins
from akosha_assets.lake.serving.replica.replica import Replica
from akosha_assets.lake.serving.search.searcher import Searcher
from akosha_assets.lake.serving.time_travel.snapshots import TimeTravel
from akosha_assets.lake.settings import LakeSettings
from akosha_assets.lake.watch.trigger import Trigger

logger = logging.getLogger(__name__)

PROBLEMS: dict[int | str, dict[str, object]] = {
    status: {"model": Problem, "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}}
    for status in (403, 404, 405, 408, 409, 411, 413, 415, 421, 422, 500, 503, 504)
}


def create_app(lake_settings: LakeSettings, settings: ApiSettings, *, replica: Replica | None = None) -> FastAPI:
    """The service over the lake of `lake_settings`. It opens nothing before it starts.

    `replica`, of the same lake, may have been started already; without it the service creates one. It stops with the
    service.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        served = replica or Replica(
            Lake(lake_settings),
            poll_seconds=settings.poll_seconds,
            memory_bytes=settings.memory_bytes,
            known_table=known_tables.reader(lake_settings),
        )
        queue, seconds = settings.search_queue, settings.search_seconds
        # The tables load while the model is loaded.
        served.start()
        past = TimeTravel(served, max_bytes=settings.as_of_bytes)
        inbox = InboxCheck(lake_settings)
        state = AppState(
            lake=served.lake,
            settings=settings,
            replica=served,
            past=past,
            searcher=load_searcher(lake_settings),
            pool=Pool(threads=settings.search_threads, queue=queue, seconds=seconds),
            past_pool=Pool(threads=1, queue=queue, seconds=seconds),
            # A process also takes time to start and to read the table logs.
            sql_pool=Pool(threads=settings.sql_processes, queue=queue, seconds=settings.sql_seconds + 30),
            inbox=inbox,
            started_at=datetime.now(UTC),
        )
        app.state.akosha = state
        app.state.metrics = RequestMetrics(state)
        app.state.operator = OperatorCheck(settings, lake_settings.home)
        app.state.trigger = Trigger(lake_settings)
        loops = (
            AlertLoop(state.ledger, served, settings),
            RecallMonitor(served, app.state.metrics, settings),
            SearchableLoop(state),
            inbox,
            app.state.operator,
        )
        for loop in loops:
            loop.start()
        # Objects that libraries created at import stay: collecting them would stop every request for 0.1 s.
        gc.collect()
        gc.freeze()
        try:
            yield
        finally:
            gc.unfreeze()
            for loop in loops:
                loop.stop()
            app.state.trigger.close()
            state.close()

    app = FastAPI(
        title="Akosha",
        description="Search over the memories of a fleet. Every error is an RFC 9457 problem document.",
        version="1",
        lifespan=lifespan,
        responses=PROBLEMS,
        docs_url=None,
        redoc_url=None,
    )
    errors.install(app)
    app.add_middleware(GZipMiddleware, minimum_size=2048, compresslevel=3)
    app.add_middleware(
        RequestMiddleware,
        guard=guard(settings),
        body_max_bytes=settings.body_max_bytes,
        body_seconds=settings.body_seconds,
    )
    for module in (
        search,
        bulk,
        memories,
        explain,
        systems,
        ingestion,
        uploads,
        alerts,
        health,
        metrics,
        shutdown,
        page,
        docs,
    ):
        app.include_router(module.router)
    mcp.install(app)
    return app


def guard(settings: ApiSettings) -> RequestGuard:
    """Refuses requests that pages of other sites cause, by the hosts and origins of the settings."""
    return RequestGuard(
        listens_on=settings.host,
        hosts=parse_hosts(settings.allowed_hosts),
        origins=parse_origins(settings.allowed_origins),
        routes=Routes(probes={"/health", "/ready", "/metrics"}, pages={"/", "/docs"}),
        settings=("AKOSHA_API_ALLOWED_HOSTS", "AKOSHA_API_ALLOWED_ORIGINS"),
    )


def load_searcher(settings: LakeSettings) -> Searcher:
    """A searcher with the embedding model of the settings, or without one and with the reason."""
    try:
        return Searcher(Embedder.load(settings, threads=1), dimensions=settings.embedding_dimensions)
    except EmbeddingUnavailable as error:
        logger.warning(
            "no embedding model is loaded; text can only be searched by keywords", extra={"cause": str(error)}
        )
        return Searcher(None, str(error), dimensions=settings.embedding_dimensions)
