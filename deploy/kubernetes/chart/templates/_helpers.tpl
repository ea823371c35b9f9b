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
