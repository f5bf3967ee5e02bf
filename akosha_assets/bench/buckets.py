"""A local S3 server set up like a cloud deployment: an inbox bucket that notifies a queue, and a bucket for tables.

For benchmarks only. The server is a dependency of the tests, not of the product.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

from akosha_assets.lake.errors import InvalidRequest

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "bench",
    "AWS_SECRET_ACCESS_KEY": "bench",
    "AWS_REGION": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-1",
}


@contextmanager
def buckets() -> Iterator[dict[str, str]]:
    """Settings of a process that uses the buckets; inside the block, S3 clients of this process use them too.

    Raises:
        InvalidRequest: the server is not installed.
    """
    try:
        from moto.server import ThreadedMotoServer
    except ImportError as error:
        raise InvalidRequest(
            "s3", "no S3 API server is installed; expected the package moto with its extras server, s3 and sqs"
        ) from error
    import boto3

    # It logs every request.
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    before = dict(os.environ)
    try:
        host, port = server.get_host_and_port()
        reached = CREDENTIALS | {"AWS_ENDPOINT_URL": f"http://{host}:{port}"}
        os.environ.update(reached)
        s3, sqs = boto3.client("s3"), boto3.client("sqs")
        for name in ("inbox", "lake"):
            s3.create_bucket(Bucket=name)
        queue = sqs.create_queue(QueueName="arrivals")["QueueUrl"]
        arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        rule = {"QueueConfigurations": [{"QueueArn": arn, "Events": ["s3:ObjectCreated:*"]}]}
        s3.put_bucket_notification_configuration(Bucket="inbox", NotificationConfiguration=rule)
        yield reached | {
            "AKOSHA_INBOX_URL": "s3://inbox",
            "AKOSHA_LAKE_URL": "s3://lake",
            "AKOSHA_INGESTION_QUEUE": queue,
        }
    finally:
        os.environ.clear()
        os.environ.update(before)
        server.stop()
