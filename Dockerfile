# docker build -t primum . && docker run --rm -it primum make demo
FROM python:3.12-slim
RUN apt-get update && apt-get install -y --no-install-recommends build-essential git && rm -rf /var/lib/apt/lists/*
WORKDIR /primum
COPY . .
RUN make setup
CMD ["make", "help"]
