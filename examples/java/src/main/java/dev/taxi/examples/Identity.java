package dev.taxi.examples;

import com.google.gson.JsonParser;
import io.grpc.CallCredentials;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.StatusException;
import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.time.Duration;
import java.time.Instant;
import java.util.concurrent.Executor;

/**
 * Who calls: somebody with a token of the development issuer. A real identity provider has its own
 * ways. gRPC asks for the headers of every try of every call.
 */
final class Identity extends CallCredentials {
  private final HttpClient http = HttpClient.newHttpClient();
  private final HttpRequest request;
  private String token;
  private Instant renewAt = Instant.MIN;

  Identity(String url, String role, String subject) {
    var form =
        "grant_type=client_credentials&client_secret=dev&scope=" + role + "&client_id=" + subject;
    request =
        HttpRequest.newBuilder(URI.create(url + "/oauth2/token"))
            .header("Content-Type", "application/x-www-form-urlencoded")
            .timeout(Client.DEADLINE)
            .POST(BodyPublishers.ofString(form))
            .build();
  }

  @Override
  public void applyRequestMetadata(RequestInfo call, Executor executor, MetadataApplier applier) {
    executor.execute(
        () -> {
          try {
            var headers = new Metadata();
            headers.put(header("authorization"), "Bearer " + token());
            headers.put(header("accept-language"), "en");
            applier.apply(headers);
          } catch (StatusException error) {
            applier.fail(error.getStatus());
          }
        });
  }

  private static Metadata.Key<String> header(String name) {
    return Metadata.Key.of(name, Metadata.ASCII_STRING_MARSHALLER);
  }

  /**
   * A token that is still good: the first one at the first call, and a new one when the last has lived
   * nine tenths of its time.
   */
  private synchronized String token() throws StatusException {
    if (Instant.now().isAfter(renewAt)) {
      try {
        renew();
      } catch (IOException | RuntimeException error) {
        throw Status.UNAVAILABLE.withDescription("no token").withCause(error).asException();
      } catch (InterruptedException error) {
        Thread.currentThread().interrupt();
        throw Status.CANCELLED.withCause(error).asException();
      }
    }
    return token;
  }

  /** Gets a new token. */
  private void renew() throws IOException, InterruptedException, StatusException {
    var asked = Instant.now();
    var answer = http.send(request, BodyHandlers.ofString());
    switch (answer.statusCode()) {
      case 200 -> {}
      case 400, 401 -> throw Status.UNAUTHENTICATED.withDescription(answer.body()).asException();
      default -> throw new IOException(answer.body());
    }
    var granted = JsonParser.parseString(answer.body()).getAsJsonObject();
    token = granted.get("access_token").getAsString();
    var lifetime = Duration.ofSeconds(granted.get("expires_in").getAsLong());
    renewAt = asked.plus(lifetime.multipliedBy(9).dividedBy(10));
  }
}
