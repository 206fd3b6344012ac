{{- define "offramp.name" -}}
{{ if contains "offramp" .Release.Name }}{{ .Release.Name }}{{ else }}{{ .Release.Name }}-offramp{{ end }}
{{- end }}

{{- define "offramp.selector" -}}
app.kubernetes.io/name: offramp
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "offramp.labels" -}}
{{ include "offramp.selector" . }}
app.kubernetes.io/component: serving
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "offramp.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default (ternary "gpu" "cpu" .Values.gpu.enabled) }}
{{- end }}
