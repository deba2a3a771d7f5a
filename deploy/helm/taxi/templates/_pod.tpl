{{/*
What all pods have in common, those of other programs too: nothing of Kubernetes' API, nothing of the
node, no right that a process which only computes and speaks does not need (Pod Security "restricted").
*/}}

{{- define "taxi.image" -}}
{{- with .Values.image -}}
{{- if .digest }}{{ .repository }}@{{ .digest }}{{ else }}{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}{{ end -}}
{{- end -}}
{{- end -}}

{{/* (dict "root" $ "user" 65532). Without enableServiceLinks a Service named taxi-gateway would put
TAXI_GATEWAY_PORT into every environment, which is no setting of ours. */}}
{{- define "taxi.podSecurity" -}}
serviceAccountName: {{ include "taxi.serviceAccount" .root }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: {{ .user }}
  runAsGroup: {{ .user }}
  fsGroup: {{ .user }}
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
{{- end -}}

{{- define "taxi.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end -}}

{{/* A variable from a Secret: (list "NAME" "secret" "key"). */}}
{{- define "taxi.secretEnv" -}}
- name: {{ index . 0 }}
  valueFrom:
    secretKeyRef:
      name: {{ index . 1 }}
      key: {{ index . 2 }}
{{- end -}}

{{/* Where a context's database is: (list $ "context"). */}}
{{- define "taxi.databaseEnv" -}}
{{- $root := index . 0 -}}{{- $name := index . 1 -}}
{{- $database := get $root.Values.database $name -}}
{{- $secret := $database.existingSecret | default (include "taxi.name" (list $root (printf "database-%s" $name))) -}}
{{- $key := ternary $database.key "url" (ne $database.existingSecret "") -}}
{{ include "taxi.secretEnv" (list (printf "TAXI_DATABASE__%s__URL" (upper $name)) $secret $key) }}
{{- end -}}

{{- define "taxi.commonEnv" -}}
- name: TAXI_CONFIG
  value: /etc/taxi/taxi.toml
- name: TAXI_LOG
  value: {{ .Values.log | quote }}
{{- end -}}

{{/* What a service has in its environment: (dict "root" $ "name" .. "service" ..). */}}
{{- define "taxi.serviceEnv" -}}
{{- $values := .root.Values -}}
{{ include "taxi.commonEnv" .root }}
- name: TAXI_SERVER__DRAIN
  value: {{ printf "%ds" (int .service.shutdown.drainSeconds) }}
{{- if .service.context }}
{{- if $values.nats.url }}
- name: TAXI_BROKER__URL
  value: {{ $values.nats.url | quote }}
{{- else }}
{{- $secret := $values.nats.existingSecret | default (include "taxi.name" (list .root "nats")) }}
{{ include "taxi.secretEnv" (list "TAXI_BROKER__URL" $secret (ternary $values.nats.key "url" (ne $values.nats.existingSecret ""))) }}
{{- end }}
{{- end }}
{{- if .service.database }}
{{ include "taxi.databaseEnv" (list .root .name) }}
{{- end }}
{{- if .service.client }}
{{- with $values.auth.client }}
{{- $secret := .existingSecret | default (include "taxi.name" (list $.root "client")) }}
{{ include "taxi.secretEnv" (list "TAXI_SERVICE__CLIENT_SECRET" $secret (ternary .key "client-secret" (ne .existingSecret ""))) }}
{{- end }}
{{- end }}
{{- if and .service.provider $values.payment.webhook.existingSecret }}
{{ include "taxi.secretEnv" (list "TAXI_PAYMENT__WEBHOOK_SECRET" $values.payment.webhook.existingSecret $values.payment.webhook.key) }}
{{- end }}
{{- range $use := include "taxi.tlsUses" . | fromJsonArray }}
{{- $prefix := printf "TAXI_TLS__%s" (upper $use.section) }}
- {name: {{ $prefix }}__CERTIFICATE, value: /etc/taxi-tls/{{ $use.secret }}/tls.crt}
- {name: {{ $prefix }}__KEY, value: /etc/taxi-tls/{{ $use.secret }}/tls.key}
{{- with $use.authority }}
- {name: {{ $prefix }}__{{ . }}, value: /etc/taxi-tls/{{ $use.secret }}/ca.crt}
{{- end }}
{{- end }}
{{- with $values.telemetry.otlpEndpoint }}
- name: OTEL_EXPORTER_OTLP_ENDPOINT
  value: {{ . | quote }}
{{- end }}
{{- with .service.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Which certificates a service shows, and whose it believes, as JSON. */}}
{{- define "taxi.tlsUses" -}}
{{- $tls := .root.Values.tls -}}{{- $uses := list -}}
{{- if and $tls.gateway.existingSecret .service.http -}}
{{- $uses = append $uses (dict "section" "gateway" "secret" "gateway") -}}
{{- end -}}
{{- if and $tls.mesh.existingSecret .service.context -}}
{{- $uses = append $uses (dict "section" "contexts" "secret" "mesh" "authority" "CLIENT_CA") -}}
{{- end -}}
{{- if and $tls.mesh.existingSecret (or .service.http .service.client) -}}
{{- $uses = append $uses (dict "section" "upstream" "secret" "mesh" "authority" "CA") -}}
{{- end -}}
{{- toJson $uses -}}
{{- end -}}

{{/* The names of the Secrets of `tls` that a service needs, as JSON. */}}
{{- define "taxi.tlsSecrets" -}}
{{- $names := list -}}
{{- range include "taxi.tlsUses" . | fromJsonArray }}{{ $names = append $names .secret | uniq }}{{ end -}}
{{- toJson $names -}}
{{- end -}}

{{/* The configuration file, as a mount and as a volume. */}}
{{- define "taxi.configMount" -}}
- name: taxi-config
  mountPath: /etc/taxi
  readOnly: true
{{- end -}}
{{- define "taxi.configVolume" -}}
- name: taxi-config
  configMap:
    name: {{ include "taxi.name" (list . "config") }}
{{- end -}}

{{/* The probes of a service: (dict "root" $ "service" ..). Liveness and startup ask only whether the
process lives; readiness also follows its database, its schema and, at first, its broker. The kubelet
speaks gRPC without TLS only; with it the admin port is asked, which has none. */}}
{{- define "taxi.probes" -}}
{{- $service := .service -}}{{- $tls := .root.Values.tls -}}
{{- range $index, $probe := list "startup" "liveness" "readiness" }}
{{- if $index }}{{ "\n" }}{{ end -}}
{{ $probe }}Probe:
  {{- if or $service.http $tls.mesh.existingSecret }}
  httpGet:
    path: {{ ternary "/readyz" "/livez" (eq $probe "readiness") }}
    port: {{ ternary "http" "admin" (eq $service.http true) }}
    {{- if and $service.http $tls.gateway.existingSecret }}
    scheme: HTTPS
    {{- end }}
  {{- else }}
  grpc:
    port: {{ $service.port }}
    {{- if ne $probe "readiness" }}
    service: liveness
    {{- end }}
  {{- end }}
  {{- toYaml (get $service.probes $probe) | nindent 2 }}
{{- end }}
{{- end -}}
