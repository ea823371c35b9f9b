{{/* The spec of the Job, once: job.yaml starts it now, cronjob.yaml on a schedule. */}}
{{- define "biolmm.jobSpec" -}}
completionMode: Indexed
completions: {{ add .Values.workers 1 }}
parallelism: {{ add .Values.workers 1 }}
# The run is done when its leader is; workers never finish by themselves.
successPolicy:
  rules:
    - succeededIndexes: "0"
podReplacementPolicy: Failed
backoffLimitPerIndex: {{ .Values.backoffLimitPerIndex }}
# A pod that fails this often fails the Job, or workers would wait for a leader that never comes back.
maxFailedIndexes: 0
activeDeadlineSeconds: {{ .Values.activeDeadlineSeconds }}
ttlSecondsAfterFinished: {{ .Values.ttlSecondsAfterFinished }}
podFailurePolicy:
  rules:
    - action: Ignore
      onPodConditions:
        - type: DisruptionTarget
          status: "True"
    # The user's mistake (64), or a release without traits that cannot be analysed (65): another try would end the same way.
    # Only the leader exits with these. 73, another reanalysis is at work in the folder, is not among them: it may be the
    # leader of a lost node, which counts as alive for three minutes. Pods are replaced after longer and longer pauses, and
    # the Job fails after backoffLimitPerIndex of them.
    - action: FailJob
      onExitCodes:
        containerName: biolmm
        operator: In
        values: [64, 65, 78]
template:
  metadata:
    labels:
      {{- include "biolmm.labels" . | nindent 6 }}
      {{- with .Values.podLabels }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
    {{- with .Values.podAnnotations }}
    annotations:
      {{- toYaml . | nindent 6 }}
    {{- end }}
  spec:
    {{- include "biolmm.podSpec" . | nindent 4 }}
{{- end -}}

{{- define "biolmm.podSpec" -}}
restartPolicy: Never
subdomain: {{ include "biolmm.name" . }}
serviceAccountName: {{ include "biolmm.name" . }}
automountServiceAccountToken: false
enableServiceLinks: false
terminationGracePeriodSeconds: {{ .Values.terminationGracePeriodSeconds }}
securityContext:
  runAsNonRoot: true
  runAsUser: {{ .Values.user }}
  runAsGroup: {{ .Values.user }}
  fsGroup: {{ .Values.user }}
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
containers:
  - name: biolmm
    image: {{ include "biolmm.image" . }}
    imagePullPolicy: {{ .Values.image.pullPolicy }}
    args:
      - run
      - --cluster
      - kubernetes
      {{- if .Values.tls.secretName }}
      - --tls-directory
      - /tls
      - --leader
      - $(JOB_NAME)-0.{{ include "biolmm.name" . }}.{{ .Release.Namespace }}.svc:8786
      {{- else }}
      - --run-directory
      - {{ .Values.storage.mountPath }}/.biolmm-runs/$(JOB_NAME)
      {{- end }}
      - --worker-memory
      - {{ include "biolmm.workerMemory" . }}
      - --spill
      - /spill
      - --
      {{- toYaml .Values.arguments | nindent 6 }}
    env:
      # What a CronJob's Job is called is known in the pod only.
      - name: JOB_NAME
        valueFrom:
          fieldRef:
            fieldPath: metadata.labels['batch.kubernetes.io/job-name']
      - name: POD_IP
        valueFrom:
          fieldRef:
            fieldPath: status.podIP
      {{- range $name, $value := .Values.store.environment }}
      - name: {{ $name }}
        value: {{ $value | quote }}
      {{- end }}
    {{- with .Values.store.secretName }}
    envFrom:
      - secretRef:
          name: {{ . }}
    {{- end }}
    ports:
      - name: scheduler
        containerPort: 8786
        protocol: TCP
    securityContext:
      allowPrivilegeEscalation: false
      readOnlyRootFilesystem: true
      privileged: false
      capabilities:
        drop: [ALL]
    resources:
      {{- range tuple "requests" "limits" }}
      {{ . }}:
        cpu: {{ $.Values.resources.cpu | quote }}
        memory: {{ $.Values.resources.memory }}
        ephemeral-storage: {{ $.Values.resources.ephemeralStorage }}
      {{- end }}
    volumeMounts:
      - name: data
        mountPath: {{ .Values.storage.mountPath }}
        {{- with .Values.storage.subPath }}
        subPath: {{ . }}
        {{- end }}
      - name: tmp
        mountPath: /tmp
      - name: spill
        mountPath: /spill
      {{- if .Values.tls.secretName }}
      - name: tls
        mountPath: /tls
        readOnly: true
      {{- end }}
volumes:
  - name: data
    persistentVolumeClaim:
      claimName: {{ include "biolmm.claim" . }}
  - name: tmp
    emptyDir:
      sizeLimit: {{ .Values.temporarySize }}
  - name: spill
    emptyDir:
      sizeLimit: {{ .Values.spillSize }}
  {{- with .Values.tls.secretName }}
  - name: tls
    secret:
      secretName: {{ . }}
      defaultMode: 0440
  {{- end }}
{{- end -}}
