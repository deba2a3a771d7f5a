package dev.taxi.examples;

import static dev.taxi.examples.Client.call;
import static dev.taxi.examples.Client.detail;

import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import dev.taxi.allocation.v1.Allocation;
import dev.taxi.allocation.v1.AllocationServiceGrpc;
import dev.taxi.allocation.v1.RequestAllocationRequest;
import dev.taxi.dashboard.v1.DashboardServiceGrpc;
import dev.taxi.dashboard.v1.TimelineEntry;
import dev.taxi.dashboard.v1.WatchDrivingInfosRequest;
import dev.taxi.dashboard.v1.WatchDrivingInfosResponse;
import dev.taxi.driving.v1.AcceptDrivingRequest;
import dev.taxi.driving.v1.Driving;
import dev.taxi.driving.v1.DrivingServiceGrpc;
import dev.taxi.driving.v1.FinishDrivingRequest;
import dev.taxi.driving.v1.StartDrivingRequest;
import dev.taxi.driving.v1.WatchOpenDrivingsRequest;
import dev.taxi.driving.v1.WatchOpenDrivingsResponse;
import dev.taxi.message.v1.ListMessagesRequest;
import dev.taxi.message.v1.Message;
import dev.taxi.message.v1.MessageServiceGrpc;
import dev.taxi.message.v1.WatchMessagesRequest;
import dev.taxi.message.v1.WatchMessagesResponse;
import dev.taxi.type.v1.Place;
import io.grpc.Channel;
import io.grpc.StatusRuntimeException;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashSet;
import java.util.List;
import java.util.UUID;
import java.util.concurrent.ThreadLocalRandom;

/**
 * One ride, as its rider and its driver see it, through the gateway's one port.
 *
 * <pre>{@code examples/java/run.sh [URL]      # else $TAXI_URL, else http://127.0.0.1:8088}</pre>
 *
 * <p>Read it from top to bottom. What every client of taxi needs, whatever it is for, is in {@link
 * Client}: a deadline for each call, trying again, reading errors, and streams that survive a broken
 * connection. How it gets its tokens is in {@link Identity}. What the ride does not expect ends it with
 * an error.
 */
public final class Ride {
  public static void main(String[] arguments) throws Exception {
    var url = System.getenv().getOrDefault("TAXI_URL", "http://127.0.0.1:8088");
    if (arguments.length > 0) {
      url = arguments[0];
    }
    url = url.replaceAll("/+$", "");
    var gateway = Client.connect(url);
    try {
      // Other people each time: a rider has one open ride at most, and data may be kept.
      var people = ProcessHandle.current().pid() + "-" + ThreadLocalRandom.current().nextInt(100_000);
      var rider = new Identity(url, "customer", "rider-" + people);
      var driver = new Identity(url, "driver", "driver-" + people);
      ride(gateway, rider, driver, "customers/rider-" + people);
    } finally {
      gateway.shutdownNow();
    }
  }

  private static void ride(Channel gateway, Identity rider, Identity driver, String customer)
      throws InterruptedException {
    var allocations = AllocationServiceGrpc.newBlockingStub(gateway).withCallCredentials(rider);
    var dashboard = DashboardServiceGrpc.newBlockingStub(gateway).withCallCredentials(rider);
    var messages = MessageServiceGrpc.newBlockingStub(gateway).withCallCredentials(rider);
    var drivings = DrivingServiceGrpc.newBlockingStub(gateway).withCallCredentials(driver);

    System.out.println(
        "# A request that is not valid. The reason is for programs, the description for people.");
    try {
      call(() -> allocations.requestAllocation(carTo("", newId())));
      throw new AssertionError("a car to nowhere");
    } catch (StatusRuntimeException error) {
      var reason = detail(error, ErrorInfo.class).orElseThrow(() -> error).getReason();
      System.out.println("  " + error.getStatus().getCode() + " " + reason);
      for (var violation : detail(error, BadRequest.class).orElseThrow(() -> error).getFieldViolationsList()) {
        System.out.println("  " + violation.getField() + ": " + violation.getDescription());
      }
    }

    System.out.println(
        "\n# The rider asks for a car, and once more with the same id: it is the same ride.");
    var wish = carTo("Misa Station", newId());
    var asked = call(() -> allocations.requestAllocation(wish));
    var again = call(() -> allocations.requestAllocation(wish));
    System.out.println("  " + asked.getName() + " " + asked.getState());
    System.out.println("  " + again.getName() + " " + again.getState());

    System.out.println(
        "\n# The rider watches the ride. A driver watches all that are open, and accepts this one.");
    var rides =
        new Client.Watch<>(
            token ->
                dashboard.watchDrivingInfos(
                    WatchDrivingInfosRequest.newBuilder().setResumeToken(token).build()),
            WatchDrivingInfosResponse::getResumeToken);
    var seen = until(rides, List.of(), "AllocationRequested", "DrivingOpened");
    var offers =
        new Client.Watch<>(
            token ->
                drivings.watchOpenDrivings(
                    WatchOpenDrivingsRequest.newBuilder().setResumeToken(token).build()),
            WatchOpenDrivingsResponse::getResumeToken);
    Driving offer;
    do {
      offer = offers.next().getDriving();
    } while (!offer.getAllocation().equals(asked.getName()));
    offers.cut();
    var accept =
        AcceptDrivingRequest.newBuilder().setName(offer.getName()).setRequestId(newId()).build();
    var accepted = call(() -> drivings.acceptDriving(accept));
    System.out.println("  " + accepted.getName() + " " + accepted.getState());
    seen = until(rides, seen, "DrivingApproved");

    System.out.println("\n# The rider's connection breaks. The driver starts and finishes meanwhile.");
    rides.cut();
    var start =
        StartDrivingRequest.newBuilder().setName(offer.getName()).setRequestId(newId()).build();
    var started = call(() -> drivings.startDriving(start));
    System.out.println("  " + started.getName() + " " + started.getState());
    var finish =
        FinishDrivingRequest.newBuilder().setName(offer.getName()).setRequestId(newId()).build();
    var finished = call(() -> drivings.finishDriving(finish));
    System.out.println("  " + finished.getName() + " " + finished.getState());
    System.out.println("  " + finished.getFare().getUnits() + " " + finished.getFare().getCurrencyCode());

    System.out.println(
        "\n# The watch carries on where it was: nothing is lost, and nothing comes twice.");
    until(rides, seen, "DrivingFinished", "PaymentApproved", "DrivingPaymentSettled");
    rides.cut();

    System.out.println("\n# What the rider was told, by pages of two.");
    var inbox =
        new Client.Watch<>(
            token ->
                messages.watchMessages(
                    WatchMessagesRequest.newBuilder().setParent(customer).setResumeToken(token).build()),
            WatchMessagesResponse::getResumeToken);
    var arrived = new HashSet<String>();
    while (arrived.size() < 5) {
      arrived.add(inbox.next().getMessage().getName());
    }
    inbox.cut();
    var told = new ArrayList<Message>();
    var sizes = new ArrayList<String>();
    var query = ListMessagesRequest.newBuilder().setParent(customer).setPageSize(2);
    do {
      var page = call(() -> messages.listMessages(query.build()));
      told.addAll(page.getMessagesList());
      sizes.add(String.valueOf(page.getMessagesCount()));
      // Everything else in the query stays as it was.
      query.setPageToken(page.getNextPageToken());
    } while (!query.getPageToken().isEmpty());
    System.out.println("  " + String.join(" + ", sizes) + " messages");
    // Newest first, but for two services that tell something at the same time.
    told.sort(Comparator.comparing(Message::getTemplate));
    told.forEach(message -> System.out.println("  " + message.getText()));
  }

  private static RequestAllocationRequest carTo(String address, String requestId) {
    var destination = Place.newBuilder().setAddress(address);
    return RequestAllocationRequest.newBuilder()
        .setAllocation(Allocation.newBuilder().setDestination(destination))
        .setRequestId(requestId)
        .build();
  }

  /** For a new wish a new id; the old one only to repeat the old one. */
  private static String newId() {
    return UUID.randomUUID().toString();
  }

  /**
   * Reads changes of a ride until all these events have happened, shows what is new, and returns all
   * that have happened.
   */
  private static List<String> until(
      Client.Watch<WatchDrivingInfosResponse> rides, List<String> known, String... wanted)
      throws InterruptedException {
    var seen = known;
    while (!seen.containsAll(List.of(wanted))) {
      var ride = rides.next().getDrivingInfo();
      var timeline = ride.getTimelineList().stream().map(TimelineEntry::getEvent).toList();
      if (timeline.size() <= seen.size()) {
        throw new AssertionError("told before: " + timeline);
      }
      seen = timeline;
    }
    var news = seen.subList(known.size(), seen.size());
    System.out.println("  the rider sees " + String.join(", ", news));
    return seen;
  }
}
