"""One ride, as its rider and its driver see it, through the gateway's one port.

    examples/python/run.sh [URL]      # else $TAXI_URL, else http://127.0.0.1:8088

Read it from top to bottom. The first half is what every client of taxi needs, whatever it is for: a
token, a deadline for each call, trying again, reading errors, streams that survive a broken
connection, and pages. The second half is the ride. What it does not expect ends it with an error.
"""

import json
import os
import random
import sys
import time
import urllib.parse
import urllib.request
import uuid
from collections.abc import Iterator

import grpc
from google.rpc import error_details_pb2 as details
from grpc_status import rpc_status
from taxi.allocation.v1 import allocation_pb2 as allocation
from taxi.allocation.v1 import allocation_pb2_grpc as allocation_grpc
from taxi.dashboard.v1 import dashboard_pb2 as dashboard
from taxi.dashboard.v1 import dashboard_pb2_grpc as dashboard_grpc
from taxi.driving.v1 import driving_pb2 as driving
from taxi.driving.v1 import driving_pb2_grpc as driving_grpc
from taxi.message.v1 import message_pb2 as message
from taxi.message.v1 import message_pb2_grpc as message_grpc
from taxi.type.v1 import place_pb2 as place

# How long one attempt may take, and how often a call is tried.
DEADLINE = 10.0
ATTEMPTS = 8
# A stream has a deadline too, or a connection that died silently would keep it for ever.
STREAM_DEADLINE = 300.0


class Caller:
    """Somebody with a token, and how they call."""

    def __init__(self, url: str, channel: grpc.Channel, role: str, subject: str) -> None:
        self.url, self.role, self.subject = url, role, subject
        self.token, self.renewal = "", time.monotonic()
        self.allocations = allocation_grpc.AllocationServiceStub(channel)
        self.drivings = driving_grpc.DrivingServiceStub(channel)
        self.dashboard = dashboard_grpc.DashboardServiceStub(channel)
        self.messages = message_grpc.MessageServiceStub(channel)

    @property
    def metadata(self) -> list[tuple[str, str]]:
        """What goes along with each attempt. A token is renewed when 90 % of its time are over."""
        if time.monotonic() >= self.renewal:
            self.token, expires_in = get_token(self.url, self.role, self.subject)
            self.renewal = time.monotonic() + 0.9 * expires_in
        return [("authorization", f"Bearer {self.token}"), ("accept-language", "en")]

    def call(self, method, request):
        """Calls, and calls again when that makes sense.

        The request is the same each time, its `request_id` included. That is what makes it safe:
        the server does it once, even when its first answer was lost.
        """
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return method(request, timeout=DEADLINE, metadata=self.metadata)
            except grpc.RpcError as error:
                if attempt == ATTEMPTS or not may_be_repeated(error):
                    raise
                wait(error, attempt)

    def pages(self, method, request) -> Iterator:
        """All pages of a list. Everything but the token has to stay as it was."""
        while True:
            page = self.call(method, request)
            yield page
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token


class Watch(Iterator):
    """A stream that carries on where it was when it breaks. It ends when the server ends it.

    Every answer brings a `resume_token`. A request with the last one of them goes on behind it.
    Changes may be joined, and WatchOpenDrivings sends its whole list anew: forget the old one.
    """

    def __init__(self, caller: Caller, method, request) -> None:
        self.caller, self.method, self.request = caller, method, request
        self.failures = 0
        self.open()

    def open(self) -> None:
        metadata = self.caller.metadata
        self.opened, self.answered = time.monotonic(), False
        self.stream = self.method(self.request, timeout=STREAM_DEADLINE, metadata=metadata)

    def __next__(self):
        while True:
            try:
                answer = next(self.stream)
            except grpc.RpcError as error:
                self.carry_on(error)
                continue
            self.failures, self.answered = 0, True
            self.request.resume_token = answer.resume_token
            return answer

    def carry_on(self, error: grpc.RpcError) -> None:
        """Opens it again, unless that makes no sense."""
        # That nothing has happened for a while is no failure. That it could not begin in time is.
        began = self.answered or time.monotonic() - self.opened >= STREAM_DEADLINE
        if error.code() != grpc.StatusCode.DEADLINE_EXCEEDED or not began:
            self.failures += 1
            # CANCELLED: by `cut`, or by a proxy on the way.
            repeat = may_be_repeated(error) or error.code() == grpc.StatusCode.CANCELLED
            if self.failures == ATTEMPTS or not repeat:
                raise error
            wait(error, self.failures)
        self.open()

    def cut(self) -> None:
        """Breaks it, as a tunnel does. It is also how to end one that nobody reads any more."""
        self.stream.cancel()


def get_token(url: str, role: str, subject: str) -> tuple[str, float]:
    """A token of the development issuer, and for how many seconds it is good.

    A real identity provider has its own ways.
    """
    form = {
        "grant_type": "client_credentials",
        "client_id": subject,
        "client_secret": "dev",
        "scope": role,
    }
    body = urllib.parse.urlencode(form).encode()
    with urllib.request.urlopen(f"{url}/oauth2/token", body, timeout=DEADLINE) as answer:
        granted = json.load(answer)
    return granted["access_token"], granted["expires_in"]


def detail(error: grpc.RpcError, kind):
    """What an error says beside its code: one of `google.rpc`'s messages, or None."""
    status = rpc_status.from_call(error)
    for packed in status.details if status else []:
        unpacked = kind()
        if packed.Unpack(unpacked):
            return unpacked
    return None


def may_be_repeated(error: grpc.RpcError) -> bool:
    """Whether the same request may do better later.

    The server says so by `RetryInfo`. The two codes are also what our own side says when there was
    no connection, or no answer in time.
    """
    codes = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
    return detail(error, details.RetryInfo) is not None or error.code() in codes


def wait(error: grpc.RpcError, attempt: int) -> None:
    """Waits for as long as the server asks for, longer each time, and not all clients alike."""
    retry = detail(error, details.RetryInfo)
    asked = retry.retry_delay.ToTimedelta().total_seconds() if retry else 0.0
    pause = max(asked, 0.1 * 2**attempt) * random.uniform(1.0, 1.5)
    print(f"{error.code().name}: again in {pause:.1f} s", file=sys.stderr)
    time.sleep(pause)


def new_id() -> str:
    """For a new wish a new id; the old one only to repeat the old one."""
    return str(uuid.uuid4())


def until(rides: Watch, seen: list[str], *wanted: str) -> None:
    """Reads changes of a ride until all these events have happened, and shows what is new."""
    known = len(seen)
    while not set(wanted) <= set(seen):
        timeline = [entry.event for entry in next(rides).driving_info.timeline]
        if len(timeline) <= len(seen):
            raise AssertionError(f"told before: {timeline}")
        seen[:] = timeline
    print(f"  the rider sees {', '.join(seen[known:])}")


def ride(url: str, channel: grpc.Channel) -> None:
    # Other people each time: a rider has one open ride at most, and data may be kept.
    people = f"{os.getpid()}-{random.randrange(100_000)}"
    rider = Caller(url, channel, "customer", f"rider-{people}")
    driver = Caller(url, channel, "driver", f"driver-{people}")

    print("# A request that is not valid. The reason is for programs, the description for people.")
    nowhere = allocation.RequestAllocationRequest(
        request_id=new_id(),
        allocation=allocation.Allocation(destination=place.Place(address="")),
    )
    try:
        rider.call(rider.allocations.RequestAllocation, nowhere)
        raise AssertionError("a car to nowhere")
    except grpc.RpcError as error:
        if error.code() != grpc.StatusCode.INVALID_ARGUMENT:
            raise
        print(f"  {error.code().name} {detail(error, details.ErrorInfo).reason}")
        for violation in detail(error, details.BadRequest).field_violations:
            print(f"  {violation.field}: {violation.description}")

    print("\n# The rider asks for a car, and once more with the same id: it is the same ride.")
    wish = allocation.RequestAllocationRequest(
        request_id=new_id(),
        allocation=allocation.Allocation(destination=place.Place(address="Misa Station")),
    )
    asked = rider.call(rider.allocations.RequestAllocation, wish)
    again = rider.call(rider.allocations.RequestAllocation, wish)
    print(f"  {asked.name} {allocation.Allocation.State.Name(asked.state)}")
    print(f"  {again.name} {allocation.Allocation.State.Name(again.state)}")

    print(
        "\n# The rider watches the ride. A driver watches all that are open, and accepts this one."
    )
    rides = Watch(rider, rider.dashboard.WatchDrivingInfos, dashboard.WatchDrivingInfosRequest())
    seen: list[str] = []
    until(rides, seen, "AllocationRequested", "DrivingOpened")
    offers = Watch(driver, driver.drivings.WatchOpenDrivings, driving.WatchOpenDrivingsRequest())
    offer = next(one.driving for one in offers if one.driving.allocation == asked.name)
    offers.cut()
    accept = driving.AcceptDrivingRequest(name=offer.name, request_id=new_id())
    accepted = driver.call(driver.drivings.AcceptDriving, accept)
    print(f"  {accepted.name} {driving.Driving.State.Name(accepted.state)}")
    until(rides, seen, "DrivingApproved")

    print("\n# The rider's connection breaks. The driver starts and finishes meanwhile.")
    rides.cut()
    start = driving.StartDrivingRequest(name=offer.name, request_id=new_id())
    started = driver.call(driver.drivings.StartDriving, start)
    print(f"  {started.name} {driving.Driving.State.Name(started.state)}")
    finish = driving.FinishDrivingRequest(name=offer.name, request_id=new_id())
    finished = driver.call(driver.drivings.FinishDriving, finish)
    print(f"  {finished.name} {driving.Driving.State.Name(finished.state)}")
    print(f"  {finished.fare.units} {finished.fare.currency_code}")

    print("\n# The watch carries on where it was: nothing is lost, and nothing comes twice.")
    until(rides, seen, "DrivingFinished", "PaymentApproved", "DrivingPaymentSettled")
    rides.cut()

    print("\n# What the rider was told, by pages of two.")
    customer = f"customers/{rider.subject}"
    told: set[str] = set()
    query = message.WatchMessagesRequest(parent=customer)
    inbox = Watch(rider, rider.messages.WatchMessages, query)
    while len(told) < 5:
        told.add(next(inbox).message.name)
    inbox.cut()
    by_two = message.ListMessagesRequest(parent=customer, page_size=2)
    pages = [page.messages for page in rider.pages(rider.messages.ListMessages, by_two)]
    print(f"  {' + '.join(str(len(page)) for page in pages)} messages")
    # Newest first, but for two services that tell something at the same time.
    for one in sorted((one for page in pages for one in page), key=lambda one: one.template):
        print(f"  {one.text}")


def main() -> None:
    given = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("TAXI_URL")
    url = (given or "http://127.0.0.1:8088").rstrip("/")
    # One connection carries all calls to all services: HTTP/2, without TLS when `taxi dev` serves.
    address = urllib.parse.urlsplit(url)
    if address.scheme == "https":
        channel = grpc.secure_channel(address.netloc, grpc.ssl_channel_credentials())
    else:
        channel = grpc.insecure_channel(address.netloc)
    with channel:
        ride(url, channel)


if __name__ == "__main__":
    main()
