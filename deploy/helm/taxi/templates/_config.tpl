{{/*
The configuration file of all processes. Secrets are not in it: they are in the environment of whoever
needs them.
*/}}

{{/* A map as TOML with dotted keys: (dict "prefix" "" "table" ..). */}}
{{- define "taxi.toml" -}}
{{- range $key, $value := .table -}}
{{- if kindIs "map" $value -}}
{{- include "taxi.toml" (dict "prefix" (printf "%s%s." $.prefix $key) "table" $value) -}}
{{- else -}}
{{ $.prefix }}{{ $key }} = {{ toJson $value }}{{ "\n" }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* What the chart sets, as YAML. */}}
{{- define "taxi.owned" -}}
auth:
  issuer: {{ include "taxi.issuer" . | quote }}
  audience: {{ .Values.auth.audience | quote }}
service:
  client_id: {{ .Values.auth.client.id | quote }}
broker:
  replicas: {{ .Values.nats.replicas }}
database:
  {{- range $name, $database := .Values.database }}
  {{ $name }}: {max_connections: {{ $database.maxConnections }}}
  {{- end }}
listen:
  host: {{ .Values.listen | quote }}
  {{- range $name, $fact := include "taxi.facts" . | fromYaml }}
  {{ $name }}: {{ $fact.port }}
  {{- end }}
  admin: 9090
upstream:
  {{- range $name, $fact := include "taxi.facts" . | fromYaml }}
  {{- if $fact.context }}
  {{ $name }}: {{ printf "%s%s:%d" (ternary "https://" "" (ne $.Values.tls.mesh.existingSecret "")) (include "taxi.name" (list $ $name)) ($fact.port | int) | quote }}
  {{- end }}
  {{- end }}
payment:
  provider_url: {{ include "taxi.provider" . | quote }}
{{- end -}}

{{- define "taxi.config" -}}
{{- $owned := include "taxi.owned" . | fromYaml -}}
{{- $table := include "taxi.overlay" (dict "base" .Values.config "over" $owned) | fromYaml -}}
{{- include "taxi.toml" (dict "prefix" "" "table" $table) -}}
{{- end -}}

{{/* The keys of a map with their tables before them, one a line: (dict "prefix" "" "table" ..). */}}
{{- define "taxi.keys" -}}
{{- range $key, $value := .table -}}
{{- if kindIs "map" $value -}}
{{- include "taxi.keys" (dict "prefix" (printf "%s%s." $.prefix $key) "table" $value) -}}
{{- else -}}
{{ $.prefix }}{{ $key }}{{ "\n" }}
{{- end -}}
{{- end -}}
{{- end -}}
