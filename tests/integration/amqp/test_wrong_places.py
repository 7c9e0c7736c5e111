"""What a broker refuses at login is told with the cure for just that."""

from __future__ import annotations

import pytest
from yarl import URL

from floxide_amqp.drivers.amqp.settings import AmqpSettings
from floxide_amqp.drivers.amqp.work_queue import AmqpWorkQueue
from floxide_amqp.exceptions import BrokerError

pytestmark = pytest.mark.rabbitmq
HASTY = AmqpSettings(open_deadline=3.0)


async def problem_of(url: URL, namespace: str) -> str:
    with pytest.raises(BrokerError) as caught:
        async with AmqpWorkQueue(str(url), namespace=namespace, settings=HASTY):
            pass
    return str(caught.value)


async def test_a_wrong_password_is_cured_in_the_url(rabbitmq_url: str, namespace: str) -> None:
    problem = await problem_of(URL(rabbitmq_url).with_password("wrong"), namespace)
    assert problem.endswith(". Check the user and the password in the broker's URL.")
    assert ".." not in problem
    assert "permission" not in problem


async def test_a_missing_virtual_host_is_told_with_how_to_make_it(rabbitmq_url: str, namespace: str) -> None:
    problem = await problem_of(URL(rabbitmq_url).with_path("/no-such-host"), namespace)
    assert "rabbitmqctl add_vhost NAME" in problem
    assert "reachable" not in problem
