# xtalgen with all that it needs, on a CPU: docker build -t xtalgen . && docker run -v "$PWD:/study" -w /study xtalgen xtalgen --help
FROM python:3.11-slim-bookworm
RUN apt-get update \
    && apt-get install --yes --no-install-recommends git make \
    && rm -rf /var/lib/apt/lists/*
# PyTorch without CUDA, a tenth of the download
ENV UV_TORCH_BACKEND=cpu PYTHONUTF8=1 OMP_WAIT_POLICY=passive
WORKDIR /opt/xtalgen
# The lock first: its layer is built again only when a version changes.
COPY Makefile requirements.lock ./
RUN make setup PYTHON=python3.11
COPY . .
ENV PATH=/opt/xtalgen/.venv/bin:$PATH PYTHONPATH=/opt/xtalgen/src
CMD ["python", "-m", "xtalgen", "--help"]
