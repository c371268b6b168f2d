# One image for every way to deploy, on amd64 and arm64: `docker build -t headrace .` (see deploy/README.md).
# Another base has to bring Python 3.11 or newer, with venv, as `python3`.
ARG BASE_IMAGE=docker.io/library/python:3.11-slim-bookworm

# What Headrace depends on, as the lock file has it: it changes rarely.
FROM ${BASE_IMAGE} AS dependencies
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY requirements.lock /source/
RUN ["python3", "-m", "venv", "/opt/venv"]
RUN ["/opt/venv/bin/python", "-m", "pip", "install", "--require-hashes", "--only-binary=:all:", "-r", "/source/requirements.lock"]
RUN ["/opt/venv/bin/python", "-c", "import pathlib, sysconfig; pathlib.Path(sysconfig.get_path('purelib'), 'headrace.pth').write_text('/opt/headrace')"]

# Headrace itself, with its migrations and pages.
FROM dependencies AS application
COPY . /source
RUN ["/opt/venv/bin/python", "-m", "pip", "install", "--no-deps", "--target=/opt/headrace", "/source"]
RUN ["mkdir", "/data"]

# Nothing is run here: what built the image leaves no trace in it, and a base of another machine can be assembled.
FROM ${BASE_IMAGE}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Headrace" \
      org.opencontainers.image.description="Takes IoT device events by webhook, SSE or Google Pub/Sub; stores each once, and hands it on." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=dependencies /opt/venv /opt/venv
COPY --from=application /opt/headrace /opt/headrace
COPY --from=application --chown=10001:10001 /data /data
ENV PATH=/opt/headrace/bin:/opt/venv/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONUNBUFFERED=1 \
    HEADRACE_SERVER__HOST=0.0.0.0
# SQLite's file, where no other store is configured, and nothing else is ever written: the root may be read-only.
VOLUME /data
WORKDIR /data
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=6s --start-period=30s --retries=3 CMD ["headrace", "health"]
ENTRYPOINT ["headrace"]
CMD ["serve"]
