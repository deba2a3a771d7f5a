{{/*
What the schema cannot say. All that is wrong is said at once, a sentence each.
*/}}

{{- define "taxi.check" -}}
{{- $wrong := concat
      (include "taxi.checkProduction" . | trim | splitList "\n")
      (include "taxi.checkOwned" . | trim | splitList "\n")
      (include "taxi.checkServices" . | trim | splitList "\n")
      (include "taxi.checkRoutes" . | trim | splitList "\n") -}}
{{- with without $wrong "" -}}
{{- fail (printf "\n\n%s\n" (join "\n" .)) -}}
{{- end -}}
{{- end -}}

{{/* Nothing is made up in production. */}}
{{- define "taxi.checkProduction" -}}
{{- if eq .Values.profile "production" -}}
{{- range include "taxi.ownStores" . | trim | splitList "\n" | compact -}}
database.{{ . }}.existingSecret is not set: in production {{ . }} needs a Secret with the URL of its own database.{{ "\n" }}
{{- end -}}
{{- if include "taxi.ownNats" . -}}
nats.url or nats.existingSecret is not set: in production the broker is not part of the release.{{ "\n" }}
{{- end -}}
{{- if include "taxi.ownIssuer" . -}}
auth.issuer is not set: in production there is no development issuer, which trusts everybody.{{ "\n" }}
{{- end -}}
{{- if include "taxi.ownProvider" . -}}
payment.providerUrl is not set: in production fees are not taken by a simulation.{{ "\n" }}
{{- end -}}
{{- end -}}
{{- if and .Values.auth.issuer (not .Values.auth.client.existingSecret) (get (include "taxi.services" . | fromYaml) "driving") -}}
auth.client.existingSecret is not set: driving needs a Secret with the client secret that {{ .Values.auth.issuer }} knows.{{ "\n" }}
{{- end -}}
{{- if and .Values.nats.url .Values.nats.existingSecret -}}
nats.url and nats.existingSecret are both set: choose one.{{ "\n" }}
{{- end -}}
{{- if and (include "taxi.ownNats" .) (gt (int .Values.nats.replicas) 1) -}}
nats.replicas is {{ .Values.nats.replicas }}, but the evaluation's broker is one server: it can keep one copy.{{ "\n" }}
{{- end -}}
{{- end -}}

{{/* What the chart sets itself is set in one place. */}}
{{- define "taxi.checkOwned" -}}
{{- $elsewhere := "server.drain server.drain_delay service.client_secret broker.url payment.webhook_secret database.allocation.url database.driving.url database.payment.url database.dashboard.url" -}}
{{- $owned := include "taxi.keys" (dict "prefix" "" "table" (include "taxi.owned" . | fromYaml)) | trim | splitList "\n" -}}
{{- $owned = concat $owned (splitList " " $elsewhere) -}}
{{- range include "taxi.keys" (dict "prefix" "" "table" .Values.config) | trim | splitList "\n" -}}
{{- if has . $owned -}}
config.{{ . }} is set by the chart itself: use the chart's own value for it.{{ "\n" }}
{{- end -}}
{{- end -}}
{{- range $name, $service := include "taxi.services" . | fromYaml -}}
{{- $seen := list -}}
{{- range $service.extraEnv -}}
{{- $key := .name | trimPrefix "TAXI_" | lower | replace "__" "." -}}
{{- if or (has .name (list "TAXI_CONFIG" "TAXI_LOG")) (and (hasPrefix "TAXI_" .name) (has $key $owned)) (eq .name "OTEL_EXPORTER_OTLP_ENDPOINT") (hasPrefix "TAXI_TLS__" .name) -}}
services.{{ $name }}.extraEnv: {{ .name }} is set by the chart itself: use the chart's own value for it.{{ "\n" }}
{{- end -}}
{{- if has .name $seen -}}
services.{{ $name }}.extraEnv: {{ .name }} is there twice.{{ "\n" }}
{{- end -}}
{{- $seen = append $seen .name -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "taxi.checkServices" -}}
{{- $services := include "taxi.services" . | fromYaml -}}
{{- if not (or .Values.serviceAccount.create .Values.serviceAccount.name) -}}
serviceAccount.name is not set: name one that is there, or let it be created.{{ "\n" }}
{{- end -}}
{{- range $name, $service := $services -}}
{{- if and $service.autoscaling.enabled (gt (int $service.autoscaling.minReplicas) (int $service.autoscaling.maxReplicas)) -}}
services.{{ $name }}.autoscaling: minReplicas is {{ $service.autoscaling.minReplicas }}, above maxReplicas, which is {{ $service.autoscaling.maxReplicas }}.{{ "\n" }}
{{- end -}}
{{- if has $name $service.callers -}}
services.{{ $name }}.callers: it does not call itself.{{ "\n" }}
{{- end -}}
{{- range $label, $_ := $service.podLabels -}}
{{- if hasPrefix "app.kubernetes.io/" $label -}}
services.{{ $name }}.podLabels: {{ $label }} is not yours: labels that begin with app.kubernetes.io/ select pods.{{ "\n" }}
{{- end -}}
{{- end -}}
{{- range $service.extraVolumeMounts -}}
{{- if regexMatch "^/etc/taxi(-tls)?(/|$)" .mountPath -}}
services.{{ $name }}.extraVolumeMounts: {{ .mountPath }} is not yours: the chart's configuration is there.{{ "\n" }}
{{- end -}}
{{- end -}}
{{- $volumes := list -}}
{{- range $service.extraVolumes -}}
{{- if has .name $volumes -}}
services.{{ $name }}.extraVolumes: {{ .name }} is there twice.{{ "\n" }}
{{- end -}}
{{- $volumes = append $volumes .name -}}
{{- end -}}
{{- range $service.extraVolumeMounts -}}
{{- if not (or (has .name $volumes) (hasPrefix "taxi-" .name)) -}}
services.{{ $name }}.extraVolumeMounts: there is no volume {{ .name }} in extraVolumes.{{ "\n" }}
{{- end -}}
{{- end -}}
{{- range $what, $asked := $service.resources.requests -}}
{{- $most := get ($service.resources.limits | default dict) $what -}}
{{- if and $most (gt (include "taxi.quantity" $asked | float64) (include "taxi.quantity" $most | float64)) -}}
services.{{ $name }}.resources: it asks for {{ $asked }} of {{ $what }}, but its limit is {{ $most }}.{{ "\n" }}
{{- end -}}
{{- end -}}
{{- range list "extraVolumes" "extraVolumeMounts" -}}
{{- range get $service . -}}
{{- if hasPrefix "taxi-" .name -}}
services.{{ $name }}: the volume {{ .name }} is not yours: names that begin with taxi- are the chart's.{{ "\n" }}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if not $services -}}
services: all of them are off.{{ "\n" }}
{{- end -}}
{{- end -}}

{{/* A quantity of Kubernetes as a number. */}}
{{- define "taxi.quantity" -}}
{{- $unit := regexFind "[A-Za-z]*$" (toString .) -}}
{{- $units := dict "" 1.0 "m" 0.001 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "Ki" 1024.0 "Mi" 1048576.0 "Gi" 1073741824.0 "Ti" 1099511627776.0 -}}
{{- mulf (toString . | trimSuffix $unit | float64) (get $units $unit) -}}
{{- end -}}

{{- define "taxi.checkRoutes" -}}
{{- $routes := .Values.gatewayApi -}}
{{- $open := list -}}
{{- if .Values.ingress.enabled }}{{ $open = append $open "ingress" }}{{ end -}}
{{- if $routes.httpRoute.enabled }}{{ $open = append $open "gatewayApi.httpRoute" }}{{ end -}}
{{- if $routes.grpcRoute.enabled }}{{ $open = append $open "gatewayApi.grpcRoute" }}{{ end -}}
{{- if and $open (not (get (include "taxi.services" . | fromYaml) "gateway")) -}}
{{ join ", " $open }}: there is no gateway to lead to, services.gateway is off.{{ "\n" }}
{{- end -}}
{{- if and .Values.ingress.enabled (not .Values.ingress.hosts) -}}
ingress.hosts is empty: name at least one host.{{ "\n" }}
{{- end -}}
{{- if and (or $routes.httpRoute.enabled $routes.grpcRoute.enabled) (not $routes.parentRefs) -}}
gatewayApi.parentRefs is empty: name the Gateway that the routes belong to.{{ "\n" }}
{{- end -}}
{{- if and $routes.httpRoute.enabled $routes.grpcRoute.enabled -}}
{{- range $routes.grpcRoute.hostnames | default (list "") -}}
{{- if or (not .) (has . $routes.httpRoute.hostnames) (not $routes.httpRoute.hostnames) -}}
gatewayApi: an HTTPRoute and a GRPCRoute cannot share {{ . | default "all hostnames" }}: give each its own hostnames.{{ "\n" }}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and .Values.payment.webhook.expose (not .Values.payment.webhook.existingSecret) -}}
payment.webhook.expose needs payment.webhook.existingSecret: without it nobody listens.{{ "\n" }}
{{- end -}}
{{- if and .Values.payment.webhook.expose .Values.tls.mesh.existingSecret -}}
payment.webhook.expose and tls.mesh: payment asks its callers for a certificate, and the provider has none of this mesh.{{ "\n" }}
{{- end -}}
{{- end -}}
