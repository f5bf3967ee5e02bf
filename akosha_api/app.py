"""Assembles the service: routes, error table, and a lifespan that opens one lake and starts one replica."""

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
from akosha_api.models import Problem
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
from akosha_assets.lake import operator_token
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
    status: {"model": Problem, "content": {errors.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}}
    for status in (403, 404, 405, 408, 409, 411, 413, 415, 421, 422, 500, 503, 504)
}


def create_app(lake_settings: LakeSettings, settings: ApiSettings, *, replica: Replica | None = None) -> FastAPI:
    """The service over the lake of `lake_settings`. Nothing is opened before it starts.

    `replica`, of the same lake, may have started: it is served and ends with the service, which has one of its own
    otherwise.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        served = replica or Replica(
            Lake(lake_settings),
            poll_seconds=settings.poll_seconds,
            memory_bytes=settings.memory_bytes,
            is_expected=known_tables.expected(lake_settings),
        )
        pool = Pool(settings.search_threads, settings.search_queue, settings.search_seconds)
        past_pool = Pool(1, settings.search_queue, settings.search_seconds)
        sql_pool = Pool(settings.sql_processes, settings.search_queue, settings.sql_seconds + 30)
        # Loading the tables goes on while the model is loaded.
        served.start()
        past = TimeTravel(served, max_bytes=settings.as_of_bytes)
        model = searcher(lake_settings)
        inbox = InboxCheck(lake_settings)
        app.state.serving = AppState(
            lake=served.lake,
            settings=settings,
            replica=served,
            past=past,
            searcher=model,
            pool=pool,
            past_pool=past_pool,
            sql_pool=sql_pool,
            inbox=inbox,
            started_at=datetime.now(UTC),
        )
        app.state.watched = RequestMetrics(app.state.serving)
        app.state.operator_token = settings.admin_token.get_secret_value().strip() or operator_token.read_or_create(
            lake_settings.home
        )
        app.state.trigger = Trigger(lake_settings)
        loops = (
            AlertLoop(app.state.serving.ledger, served, settings),
            RecallMonitor(served, app.state.watched, settings),
            SearchableLoop(app.state.serving),
            inbox,
        )
        for loop in loops:
            loop.start()
        # What libraries made at import stays; looking through all of it for garbage stops every request for a tenth of
        # a second.
        gc.collect()
        gc.freeze()
        try:
            yield
        finally:
            gc.unfreeze()
            for loop in loops:
                loop.stop()
            app.state.trigger.close()
            app.state.serving.close()

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
    """What refuses requests that pages of other sites cause, with the settings' hosts and origins."""
    return RequestGuard(
        listens_on=settings.host,
        hosts=parse_hosts(settings.allowed_hosts),
        origins=parse_origins(settings.allowed_origins),
        routes=Routes(probes={"/health", "/ready", "/metrics"}, pages={"/", "/docs"}),
        settings=("AKOSHA_API_ALLOWED_HOSTS", "AKOSHA_API_ALLOWED_ORIGINS"),
    )


def searcher(settings: LakeSettings) -> Searcher:
    """A searcher with the model of the settings, or one that says why there is none."""
    try:
        return Searcher(Embedder.load(settings, threads=1), dimensions=settings.embedding_dimensions)
    except EmbeddingUnavailable as error:
        logger.warning("words cannot be turned into vectors here; keyword search goes on", extra={"cause": str(error)})
        return Searcher(None, str(error), dimensions=settings.embedding_dimensions)
