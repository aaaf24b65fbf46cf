"""Photographs classified over HTTP by FastAPI and ONNX Runtime, as their documentation recommends.

    MODEL=model.onnx CONFIG=config.json THREADS=1 uvicorn serve_fastapi:app --workers 2

A request's body is a JPEG or PNG. Decoding and the network run in the thread pool that FastAPI gives to what
blocks; ONNX Runtime releases the interpreter's lock meanwhile. Each worker has a session of THREADS threads.
"""

import io
import json
import os

import numpy as np
import onnxruntime
from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from PIL import Image

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = int(os.environ["THREADS"])
session = onnxruntime.InferenceSession(os.environ["MODEL"], options, providers=["CPUExecutionProvider"])
source = session.get_inputs()[0].name
with open(os.environ["CONFIG"], encoding="utf-8") as file:
    config = json.load(file)
preparation, names = config["preprocessing"], config["classes"]
size = preparation["input_size"]
mean = np.asarray(preparation["mean"], np.float32)
std = np.asarray(preparation["std"], np.float32)
app = FastAPI()


def prepared(body):
    image = Image.open(io.BytesIO(body)).convert("RGB")
    whole = preparation["resize"].get("size", size)
    if image.size != (whole, whole):
        image = image.resize((whole, whole), Image.BILINEAR)
    first = round((whole - size) / 2)
    image = image.crop((first, first, first + size, first + size))
    pixels = (np.asarray(image, np.float32) / 255 - mean) / std
    return pixels.transpose(2, 0, 1)[None]


def classify_bytes(body):
    logits = session.run(None, {source: prepared(body)})[0][0]
    weights = np.exp(logits - logits.max())
    probabilities = weights / weights.sum()
    best = np.argsort(-logits)[:5]
    return {"classes": [{"class": names[i], "probability": float(probabilities[i])} for i in best]}


@app.post("/classify")
async def classify(request: Request):
    body = await request.body()
    return await run_in_threadpool(classify_bytes, body)
