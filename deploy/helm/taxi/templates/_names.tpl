{{/*
Names and labels. Every name begins with the release's, which is unique in a namespace, and is at most
52 characters long: a StatefulSet's pods, and their revision label, need the rest of the 63.
Where that cuts the release's name, a digest of the whole keeps two of them apart.
*/}}

{{/* A name: (list $ "suffix"). */}}
{{- define "taxi.name" -}}
{{- $root := index . 0 -}}{{- $suffix := index . 1 -}}
{{- $name := printf "%s-%s" $root.Release.Name $suffix -}}
{{- if gt (len $name) 52 -}}
  {{- $digest := sha256sum $root.Release.Name | trunc 6 -}}
  {{- $room := sub 50 (add (len $suffix) (len $digest)) | int -}}
  {{- $name = printf "%s-%s-%s" ($root.Release.Name | trunc $room | trimSuffix "-") $digest $suffix -}}
{{- end -}}
{{- $name -}}
{{- end -}}

{{/* What selects pods, for ever the same: (list $ "component"). */}}
{{- define "taxi.selector" -}}
app.kubernetes.io/name: {{ (index . 0).Chart.Name }}
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{/* The labels of an object: (list $ "component"). */}}
{{- define "taxi.labels" -}}
{{ include "taxi.selector" . }}
app.kubernetes.io/part-of: taxi
app.kubernetes.io/version: {{ (index . 0).Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ (index . 0).Release.Service }}
helm.sh/chart: {{ printf "%s-%s" (index . 0).Chart.Name (index . 0).Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* The metadata of an object: (list $ "suffix" "component"). */}}
{{- define "taxi.metadata" -}}
name: {{ include "taxi.name" (list (index . 0) (index . 1)) }}
namespace: {{ (index . 0).Release.Namespace }}
labels:
  {{- include "taxi.labels" (list (index . 0) (index . 2)) | nindent 2 }}
{{- end -}}

{{- define "taxi.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (include "taxi.name" (list . "service")) -}}
{{- end -}}
