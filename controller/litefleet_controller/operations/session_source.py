"""Who holds the connections to devices: this process, or with `--cluster` the workers of a Dask cluster."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

from litefleet_inventory.model import Device

from ..common.errors import UsageError
from ..config.bandwidth import BandwidthConfig, SiteCacheConfig
from ..devices.progress import Progress
from ..devices.site_cache import SiteCache
from ..devices.visit import SessionFactory
from ..project.project import Project

_MOST_NAMED = 10


@asynccontextmanager
async def session_factory_for(
    project: Project, progress: Progress, keep_agent: bool = True
) -> AsyncIterator[SessionFactory]:
    """Yield the factory of sessions with a project's devices, over the cluster that its options name, if they name one.

    Devices that no worker can reach are reported here, before any device is contacted.
    Raises: UsageError for an address that cannot be used; ClusterError where the cluster has no worker for any device.
    """
    factory = project.session_factory(progress, keep_agent)
    if not project.options.cluster:
        cache = SiteCache(project.site_of) if project.config.site_cache != SiteCacheConfig() else None
        try:
            yield replace(factory, site_cache=cache)
        finally:
            if cache is not None:
                await cache.close()
        return
    from ..cluster.address import ClusterError, TlsFiles, checked_address, require_extra

    if project.config.bandwidth != BandwidthConfig():
        raise UsageError(
            "`bandwidth:` in litefleet.yaml limits what one process sends, and with --cluster several workers send: "
            "remove it, or run without --cluster"
        )
    chosen = project.config.cluster
    tls = TlsFiles(chosen.authority, chosen.certificate, chosen.key)
    address = checked_address(project.options.cluster, tls, chosen.plain_tcp)
    require_extra()
    from ..cluster.coordinator import ClusterStarter, connected

    async with connected(address, tls, progress.message) as pool:
        connect_s = project.config.ssh.connect_time_limit_s
        starter = ClusterStarter(pool, factory.archive, project.host_keys(), project.hops, connect_s)
        out_of_reach = starter.unreachable(project.devices)
        if len(out_of_reach) == len(project.devices):
            first = out_of_reach[0]
            others = "; the others are out of reach too" if len(out_of_reach) > 1 else ""
            raise ClusterError(pool.why_none(first, project.hops(first)) + others)
        workers = len(pool.workers)
        progress.message(f"{workers} worker{'s' if workers != 1 else ''} for {pool.sessions} devices at once")
        if out_of_reach:
            progress.message(_out_of_reach(out_of_reach))
        yield replace(factory, elsewhere=starter, at_once=pool.sessions)


def _out_of_reach(devices: Sequence[Device]) -> str:
    names = ", ".join(device.name for device in devices[:_MOST_NAMED])
    more = f" and {len(devices) - _MOST_NAMED} more" if len(devices) > _MOST_NAMED else ""
    return f"no worker of the cluster can reach {names}{more}: they count as offline until one can"
