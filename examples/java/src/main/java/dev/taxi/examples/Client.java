package dev.taxi.examples;

import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.Message;
import com.google.rpc.RetryInfo;
import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ClientCall;
import io.grpc.Context;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.MethodDescriptor;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.TlsChannelCredentials;
import io.grpc.protobuf.StatusProto;
import java.net.URI;
import java.time.Duration;
import java.util.Iterator;
import java.util.NoSuchElementException;
import java.util.Optional;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;
import java.util.function.Function;
import java.util.function.Supplier;

/** What every client of taxi needs, whatever it is for. */
final class Client {
  /** How long one try of a call may take. Without a deadline it may hang for ever. */
  static final Duration DEADLINE = Duration.ofSeconds(10);

  /** A stream has one too, or a connection that died silently would keep it for ever. */
  private static final Duration STREAM_DEADLINE = Duration.ofMinutes(5);

  /** How often a call is tried. */
  private static final int TRIES = 8;

  /** How long the first pause is, in milliseconds, unless the server asks for more. */
  private static final long FIRST_PAUSE = 200;

  private Client() {}

  /**
   * Opens one connection that carries all calls to all services: HTTP/2, without TLS when {@code taxi
   * dev} serves. Each call has a deadline.
   */
  static ManagedChannel connect(String url) {
    var address = URI.create(url);
    var security =
        address.getScheme().equals("https")
            ? TlsChannelCredentials.create()
            : InsecureChannelCredentials.create();
    return Grpc.newChannelBuilder(address.getAuthority(), security)
        .intercept(Client::withDeadline)
        .build();
  }

  private static <Q, A> ClientCall<Q, A> withDeadline(
      MethodDescriptor<Q, A> method, CallOptions options, Channel next) {
    var deadline = method.getType().serverSendsOneMessage() ? DEADLINE : STREAM_DEADLINE;
    return next.newCall(method, options.withDeadlineAfter(deadline));
  }

  /**
   * Calls, and calls again when that makes sense. The request is the same each time, its {@code
   * request_id} included. That is what makes it safe: the server does it once, even when its first
   * answer was lost. It ends early when the caller's own {@link Context} does.
   */
  static <A> A call(Supplier<A> method) throws InterruptedException {
    for (var attempt = 1; ; attempt++) {
      try {
        return method.get();
      } catch (StatusRuntimeException error) {
        if (attempt == TRIES || !mayBeRepeated(error) || !pause(error, attempt)) {
          throw error;
        }
      }
    }
  }

  /**
   * Whether the same request may do better later. The server says so by RetryInfo. The two codes are
   * also what our own side says when there was no connection, or no answer in time.
   */
  private static boolean mayBeRepeated(StatusRuntimeException error) {
    var code = error.getStatus().getCode();
    return detail(error, RetryInfo.class).isPresent()
        || code == Status.Code.UNAVAILABLE
        || code == Status.Code.DEADLINE_EXCEEDED;
  }

  /**
   * Waits for as long as the server asks for, longer each time, and not all clients alike. It says no
   * when nobody waits with it any more.
   */
  private static boolean pause(StatusRuntimeException error, int attempt) throws InterruptedException {
    var caller = Context.current();
    if (caller.isCancelled()) {
      return false;
    }
    var asked = detail(error, RetryInfo.class).orElseGet(RetryInfo::getDefaultInstance).getRetryDelay();
    var millis = asked.getSeconds() * 1000 + asked.getNanos() / 1_000_000;
    var least = Math.max(millis, FIRST_PAUSE << (attempt - 1));
    var pause = least + ThreadLocalRandom.current().nextLong(least / 2);
    System.err.printf("%s: again in %.1f s%n", error.getStatus().getCode(), pause / 1000.0);
    var gone = new CountDownLatch(1);
    Context.CancellationListener listener = cancelled -> gone.countDown();
    caller.addListener(listener, Runnable::run);
    try {
      return !gone.await(pause, TimeUnit.MILLISECONDS);
    } finally {
      caller.removeListener(listener);
    }
  }

  /** What an error says beside its code: one of the messages of {@code google.rpc}. */
  static <T extends Message> Optional<T> detail(StatusRuntimeException error, Class<T> kind) {
    for (var packed : StatusProto.fromThrowable(error).getDetailsList()) {
      if (packed.is(kind)) {
        try {
          return Optional.of(packed.unpack(kind));
        } catch (InvalidProtocolBufferException broken) {
          throw new IllegalStateException(broken);
        }
      }
    }
    return Optional.empty();
  }

  /**
   * A stream that carries on where it was when it breaks. Every answer brings a {@code resume_token}. A
   * request with the last one of them goes on behind it. Changes may be joined, and WatchOpenDrivings
   * sends its whole list anew: forget the old one. It ends early when the caller's own {@link Context}
   * does.
   */
  static final class Watch<A> {
    private final Function<String, Iterator<A>> open;
    private final Function<A, String> resumeToken;
    private String token = "";
    private Context.CancellableContext context = Context.current().withCancellation();
    private Iterator<A> stream;
    private long opened;

    Watch(Function<String, Iterator<A>> open, Function<A, String> resumeToken) {
      this.open = open;
      this.resumeToken = resumeToken;
    }

    /**
     * Waits for the next answer. It says no when the server says that there will be none, as
     * WatchAllocation does when the ride is over.
     */
    boolean hasNext() throws InterruptedException {
      for (var failures = 1; ; failures++) {
        try {
          if (stream == null) {
            opened = System.nanoTime();
            context = Context.current().withCancellation();
            context.run(() -> stream = open.apply(token));
          }
          return stream.hasNext();
        } catch (StatusRuntimeException error) {
          cut();
          stream = null;
          // That nothing has happened for a while is no failure. That it could not begin is one.
          if (System.nanoTime() - opened > STREAM_DEADLINE.toNanos() / 2) {
            failures = 1;
          }
          // CANCELLED: by `cut`, or by a proxy on the way.
          var again = mayBeRepeated(error) || error.getStatus().getCode() == Status.Code.CANCELLED;
          if (failures == TRIES || !again || !pause(error, failures)) {
            throw error;
          }
        }
      }
    }

    /** Waits for the next answer, which there has to be. */
    A next() throws InterruptedException {
      if (!hasNext()) {
        throw new NoSuchElementException("the stream has ended");
      }
      var answer = stream.next();
      token = resumeToken.apply(answer);
      return answer;
    }

    /** Breaks it, as a tunnel does; it also ends it, when nobody asks for more. */
    void cut() {
      context.cancel(null);
    }
  }
}
