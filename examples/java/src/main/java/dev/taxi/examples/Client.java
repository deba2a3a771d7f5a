package dev.taxi.examples;

import com.google.gson.JsonParser;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.Message;
import com.google.rpc.RetryInfo;
import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ClientCall;
import io.grpc.ClientInterceptors;
import io.grpc.Context;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.TlsChannelCredentials;
import io.grpc.protobuf.StatusProto;
import io.grpc.stub.MetadataUtils;
import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.time.Duration;
import java.util.Iterator;
import java.util.Optional;
import java.util.concurrent.ThreadLocalRandom;
import java.util.function.Function;
import java.util.function.Supplier;

/** What every client of taxi needs, whatever it is for. */
final class Client {
  /** How long one try of a call may take. Without a deadline it may hang for ever. */
  private static final Duration DEADLINE = Duration.ofSeconds(10);

  /** A stream has one too, or a connection that died silently would keep it for ever. */
  private static final Duration STREAM_DEADLINE = Duration.ofMinutes(5);

  /** How often a call is tried. */
  private static final int TRIES = 8;

  /** How long the first pause is, in milliseconds, unless the server asks for more. */
  private static final long FIRST_PAUSE = 200;

  private Client() {}

  /**
   * Opens one connection that carries all calls to all services: HTTP/2, without TLS when {@code taxi
   * dev} serves.
   */
  static ManagedChannel connect(String url) {
    var address = URI.create(url);
    var security =
        address.getScheme().equals("https")
            ? TlsChannelCredentials.create()
            : InsecureChannelCredentials.create();
    return Grpc.newChannelBuilder(address.getAuthority(), security).build();
  }

  /** The same connection in the name of somebody: with their token, their language, and deadlines. */
  static Channel as(Channel gateway, String url, String role, String subject)
      throws IOException, InterruptedException {
    var headers = new Metadata();
    headers.put(header("authorization"), "Bearer " + token(url, role, subject));
    headers.put(header("accept-language"), "en");
    return ClientInterceptors.intercept(
        gateway, MetadataUtils.newAttachHeadersInterceptor(headers), Client::withDeadline);
  }

  private static Metadata.Key<String> header(String name) {
    return Metadata.Key.of(name, Metadata.ASCII_STRING_MARSHALLER);
  }

  private static <Q, A> ClientCall<Q, A> withDeadline(
      MethodDescriptor<Q, A> method, CallOptions options, Channel next) {
    var deadline = method.getType().serverSendsOneMessage() ? DEADLINE : STREAM_DEADLINE;
    return next.newCall(method, options.withDeadlineAfter(deadline));
  }

  /**
   * A token of the development issuer. A real identity provider has its own ways. Tokens expire ({@code
   * expires_in} seconds): a client that lives longer gets a new one in time.
   */
  private static String token(String url, String role, String subject)
      throws IOException, InterruptedException {
    var form =
        "grant_type=client_credentials&client_secret=dev&scope=" + role + "&client_id=" + subject;
    var request =
        HttpRequest.newBuilder(URI.create(url + "/oauth2/token"))
            .header("Content-Type", "application/x-www-form-urlencoded")
            .timeout(DEADLINE)
            .POST(BodyPublishers.ofString(form))
            .build();
    var answer = HttpClient.newHttpClient().send(request, BodyHandlers.ofString());
    if (answer.statusCode() != 200) {
      throw new IOException("no token: " + answer.body());
    }
    return JsonParser.parseString(answer.body()).getAsJsonObject().get("access_token").getAsString();
  }

  /**
   * Calls, and calls again when that makes sense. The request is the same each time, its {@code
   * request_id} included. That is what makes it safe: the server does it once, even when its first
   * answer was lost.
   */
  static <A> A call(Supplier<A> method) throws InterruptedException {
    for (var attempt = 1; ; attempt++) {
      try {
        return method.get();
      } catch (StatusRuntimeException error) {
        if (attempt == TRIES || !mayBeRepeated(error)) {
          throw error;
        }
        pause(error, attempt);
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

  /** Waits for as long as the server asks for, longer each time, and not all clients alike. */
  private static void pause(StatusRuntimeException error, int attempt) throws InterruptedException {
    var asked = detail(error, RetryInfo.class).orElseGet(RetryInfo::getDefaultInstance).getRetryDelay();
    var millis = asked.getSeconds() * 1000 + asked.getNanos() / 1_000_000;
    var least = Math.max(millis, FIRST_PAUSE << (attempt - 1));
    var pause = least + ThreadLocalRandom.current().nextLong(least / 2);
    System.err.printf("%s: again in %.1f s%n", error.getStatus().getCode(), pause / 1000.0);
    Thread.sleep(pause);
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
   * request with the last one of them gets what has come since: nothing is missing and nothing comes
   * twice.
   */
  static final class Watch<A> {
    private final Function<String, Iterator<A>> open;
    private final Function<A, String> resumeToken;
    private String token = "";
    private Context.CancellableContext context = Context.current().withCancellation();
    private Iterator<A> stream;

    Watch(Function<String, Iterator<A>> open, Function<A, String> resumeToken) {
      this.open = open;
      this.resumeToken = resumeToken;
    }

    /** Waits for the next answer. */
    A next() throws InterruptedException {
      for (var failures = 0; ; ) {
        try {
          if (stream == null) {
            context = Context.current().withCancellation();
            context.run(() -> stream = open.apply(token));
          }
          var answer = stream.next();
          token = resumeToken.apply(answer);
          return answer;
        } catch (StatusRuntimeException error) {
          cut();
          stream = null;
          var code = error.getStatus().getCode();
          // That nothing has happened for a while is no failure.
          if (code != Status.Code.DEADLINE_EXCEEDED) {
            failures++;
            // CANCELLED: by `cut`, or by a proxy on the way.
            if (failures == TRIES || !mayBeRepeated(error) && code != Status.Code.CANCELLED) {
              throw error;
            }
            pause(error, failures);
          }
        }
      }
    }

    /** Breaks it, as a tunnel does; it also ends it, when nobody asks for more. */
    void cut() {
      context.cancel(null);
    }
  }
}
