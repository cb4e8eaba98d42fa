"""A store on a real server with its own time and run id."""

from tests.fakes.store_rigs import SETTINGS, RedisRig, server_rig


class RealRig(RedisRig):
    """The library as it is: the server's own time and run id."""

    async def _set_world(self) -> None:
        pass


def rig_at(url: str) -> RealRig:
    steered = server_rig("real", url)
    return RealRig("real", steered.link, steered.redis_store._blocking)


async def opened(url: str) -> RealRig:
    rig = rig_at(url)
    await rig.store.init(SETTINGS)
    return rig
