{{/*
What the chart knows of the program, and which parts of an evaluation this release needs.
*/}}

{{/* What each service is. `secret` is the part of its configuration that nobody else gets. */}}
{{- define "taxi.facts" -}}
gateway: {port: 8088, http: true}
allocation: {port: 8081, context: true, database: true}
driving: {port: 8086, context: true, database: true, client: true}
payment: {port: 8083, context: true, database: true, provider: true}
dashboard: {port: 8084, context: true, database: true}
message: {port: 8085, context: true}
{{- end -}}

{{/* A map over another, as YAML: (dict "base" .. "over" ..). Other than `merge` it keeps false and 0. */}}
{{- define "taxi.overlay" -}}
{{- $out := deepCopy .base -}}
{{- range $key, $value := .over -}}
  {{- $below := get $out $key -}}
  {{- if and (kindIs "map" $value) (kindIs "map" $below) -}}
    {{- $value = include "taxi.overlay" (dict "base" $below "over" $value) | fromYaml -}}
  {{- end -}}
  {{- $_ := set $out $key $value -}}
{{- end -}}
{{- toYaml $out -}}
{{- end -}}

{{/* The services that are on, each with its values over the defaults and its facts. */}}
{{- define "taxi.services" -}}
{{- $services := dict -}}
{{- $facts := include "taxi.facts" . | fromYaml -}}
{{- range $name, $own := .Values.services -}}
  {{- $service := include "taxi.overlay" (dict "base" $.Values.defaults "over" $own) | fromYaml -}}
  {{- if $service.enabled -}}
    {{- $_ := set $services $name (mergeOverwrite $service (get $facts $name)) -}}
  {{- end -}}
{{- end -}}
{{- toYaml $services -}}
{{- end -}}

{{/* The contexts with a database that are on, one a line. */}}
{{- define "taxi.stores" -}}
{{- range $name, $service := include "taxi.services" . | fromYaml -}}
{{- if $service.database }}{{ $name }}{{ "\n" }}{{ end -}}
{{- end -}}
{{- end -}}

{{/* Those of them whose database this release brings along. */}}
{{- define "taxi.ownStores" -}}
{{- range include "taxi.stores" . | trim | splitList "\n" -}}
{{- if and . (not (get $.Values.database .).existingSecret) }}{{ . }}{{ "\n" }}{{ end -}}
{{- end -}}
{{- end -}}

{{/* The databases that the Postgres of this release has, one a line: also of what is off, because it makes
them only when its volume is empty. */}}
{{- define "taxi.ownDatabases" -}}
{{- if include "taxi.ownPostgres" . -}}
{{- range $name, $fact := include "taxi.facts" . | fromYaml -}}
{{- if and $fact.database (not (get $.Values.database $name).existingSecret) }}{{ $name }}{{ "\n" }}{{ end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Not empty when this release brings it along. */}}
{{- define "taxi.ownPostgres" -}}
{{- include "taxi.ownStores" . | trim -}}
{{- end -}}
{{- define "taxi.ownNats" -}}
{{- if not (or .Values.nats.url .Values.nats.existingSecret) }}true{{ end -}}
{{- end -}}
{{- define "taxi.ownIssuer" -}}
{{- if not .Values.auth.issuer }}true{{ end -}}
{{- end -}}
{{- define "taxi.ownProvider" -}}
{{- if and (not .Values.payment.providerUrl) (get (include "taxi.services" . | fromYaml) "payment") }}true{{ end -}}
{{- end -}}

{{- define "taxi.issuer" -}}
{{- .Values.auth.issuer | default (printf "http://%s:8080" (include "taxi.name" (list . "issuer"))) -}}
{{- end -}}
{{- define "taxi.provider" -}}
{{- .Values.payment.providerUrl | default (printf "http://%s:8080" (include "taxi.name" (list . "provider"))) -}}
{{- end -}}

{{/* How many replicas there are at least. */}}
{{- define "taxi.atLeast" -}}
{{- ternary .autoscaling.minReplicas .replicas .autoscaling.enabled | int -}}
{{- end -}}

{{/* How long a pod may take to end: less a moment, all of it is waiting for others. The program itself
stops its work within 10 s after the last request. */}}
{{- define "taxi.grace" -}}
{{- add .shutdown.preStopSeconds .shutdown.drainSeconds 15 -}}
{{- end -}}
