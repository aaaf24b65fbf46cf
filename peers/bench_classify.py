"""Classifies one JPEG in a process of its own, as short as such a script can be.

    python bench_classify.py photo.jpg --onnx network.onnx
    python bench_classify.py photo.jpg --graph graph.json --weights weights.pth
"""

import sys

import numpy as np
from PIL import Image

SIZE = 331


def main():
    photo, *options = sys.argv[1:]
    options = dict(zip(options[::2], options[1::2]))
    image = Image.open(photo).convert("RGB")
    scale = SIZE / 0.875 / min(image.size)
    image = image.resize([round(scale * pixels) for pixels in image.size], Image.BILINEAR)
    left, top = ((pixels - SIZE) // 2 for pixels in image.size)
    image = np.asarray(image.crop((left, top, left + SIZE, top + SIZE)), dtype="float32")
    x = ((image / 255 - 0.5) / 0.5).transpose(2, 0, 1)[None]
    if "--onnx" in options:
        import onnxruntime

        logits = onnxruntime.InferenceSession(options["--onnx"]).run(None, {"x": x})[0][0]
    else:
        import torch

        from graph_network import GraphNetwork, load_graph

        with torch.device("meta"):
            network = GraphNetwork(load_graph(options["--graph"]))
        network.load_state_dict(torch.load(options["--weights"], mmap=True), assign=True)
        with torch.inference_mode():
            logits = network.eval()(torch.from_numpy(x))[0].numpy()
    for index in np.argsort(-logits)[:5]:
        print(index, logits[index])


if __name__ == "__main__":
    main()
