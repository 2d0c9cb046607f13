# A headless engine: docker build -t aml100 . && docker run -d --restart on-failure:5 -v aml100:/data aml100
# Secrets come by --env-file or a mounted key file of mode 0600; the console attaches with
#   docker exec -it NAME aml100-console attach --state /data/state.db
FROM python:3.11-slim

RUN useradd --create-home --uid 1000 aml100 && install -d -o aml100 -m 0700 /data
WORKDIR /app
COPY pyproject.toml README.md ./
COPY config config
COPY aml100 aml100
# On Linux the package index has torch with CUDA, several GB: name a CPU wheel by --build-arg TORCH=... for a small image.
ARG TORCH=torch==2.13.0
RUN pip install --no-cache-dir "$TORCH" && pip install --no-cache-dir .

USER aml100
VOLUME /data
STOPSIGNAL SIGTERM
ENTRYPOINT ["aml100-console"]
CMD ["run", "--no-tui", "--log-format", "json", "--state", "/data/state.db"]
