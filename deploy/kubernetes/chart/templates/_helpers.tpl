{{- define "biolmm.name" -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "biolmm.selector" -}}
app.kubernetes.io/name: biolmm
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "biolmm.labels" -}}
{{ include "biolmm.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{- define "biolmm.image" -}}
{{- with .Values.image -}}
{{- if .digest }}{{ .repository }}@{{ .digest }}{{ else }}{{ .repository }}:{{ .tag }}{{ end -}}
{{- end -}}
{{- end -}}

{{- define "biolmm.claim" -}}
{{- .Values.storage.existingClaim | default (include "biolmm.name" .) -}}
{{- end -}}

{{/* Nine tenths of a pod's memory: Dask acts before the kernel kills. */}}
{{- define "biolmm.workerMemory" -}}
{{- $number := regexFind "^[0-9]+" .Values.resources.memory | int -}}
{{- $mebibytes := ternary (mul $number 1024) $number (hasSuffix "Gi" .Values.resources.memory) -}}
{{- div (mul $mebibytes 9) 10 }}MiB
{{- end -}}
