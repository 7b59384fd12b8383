{{- define "bpfnet.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- define "bpfnet.labels" -}}
app.kubernetes.io/name: bpfnet
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end -}}

{{- /* The flags that belong to the mounts below, and those of .Values.config: a file for --config. */ -}}
{{- define "bpfnet.config" -}}
state-dir={{ .Values.stateDir | quote }}
bpffs="/sys/fs/bpf/bpfnet"
socket="/run/bpfnet/bpfnet.sock"
cgroup="/run/bpfnet/cgroup"
cni-conf="{{ .Values.cni.confDir }}/{{ .Values.cni.confName }}"
{{- if .Values.apiServer }}
api-server={{ .Values.apiServer | quote }}
{{- end }}
{{- range $flag, $value := .Values.config }}
{{- if kindIs "slice" $value }}
{{ $flag }}=[{{ range $i, $each := $value }}{{ if $i }}, {{ end }}{{ $each | quote }}{{ end }}]
{{- else if kindIs "string" $value }}
{{ $flag }}={{ $value | quote }}
{{- else if kindIs "float64" $value }}
{{ $flag }}={{ $value | int64 }}
{{- else }}
{{ $flag }}={{ $value }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "bpfnet.imagePullSecrets" -}}
{{- if .Values.imagePullSecrets -}}
imagePullSecrets:
{{- range .Values.imagePullSecrets }}
  - name: {{ . }}
{{- end }}
{{- end }}
{{- end -}}

{{- /* Init containers and removal mount file systems on the host and write its directories. */ -}}
{{- define "bpfnet.hostMounts" -}}
- name: config
  mountPath: /etc/bpfnet
  readOnly: true
- name: bpffs
  mountPath: /sys/fs/bpf
  mountPropagation: Bidirectional
- name: run
  mountPath: /run/bpfnet
  mountPropagation: Bidirectional
- name: state
  mountPath: {{ .Values.stateDir }}
- name: cni-bin
  mountPath: {{ .Values.cni.binDir }}
- name: cni-conf
  mountPath: {{ .Values.cni.confDir }}
{{- end -}}

{{- define "bpfnet.volumes" -}}
- name: config
  configMap:
    name: bpfnet
- name: bpffs
  hostPath:
    path: /sys/fs/bpf
    type: Directory
- name: run
  hostPath:
    path: /run/bpfnet
    type: DirectoryOrCreate
- name: state
  hostPath:
    path: {{ .Values.stateDir }}
    type: DirectoryOrCreate
- name: cni-bin
  hostPath:
    path: {{ .Values.cni.binDir }}
    type: DirectoryOrCreate
- name: cni-conf
  hostPath:
    path: {{ .Values.cni.confDir }}
    type: DirectoryOrCreate
{{- end -}}
