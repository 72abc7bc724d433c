"""Runs an export through TensorFlow's C API: a process with no Python side of TensorFlow.

TensorFlow Serving is such a process. `describe` runs in a process with TensorFlow, and `CSession`
in one that has only imported this module. All inputs are strings, as in the exports of tasks.
"""

import ctypes
import glob
import json
import sysconfig
from pathlib import Path

TF_STRING = 7


def describe(path):
    """Returns the names of an export's inputs and outputs in its graph, as JSON."""
    from tensorflow.python.saved_model import loader_impl

    signature = loader_impl.parse_saved_model(str(path)).meta_graphs[0].signature_def
    names = {
        side: {
            name: info.name for name, info in getattr(signature["serving_default"], side).items()
        }
        for side in ("inputs", "outputs")
    }
    return json.dumps(names)


class _Output(ctypes.Structure):
    _fields_ = [("operation", ctypes.c_void_p), ("index", ctypes.c_int)]


class _Library:
    """The functions of libtensorflow_cc, and the ops of tf.text."""

    def __init__(self):
        packages = Path(sysconfig.get_paths()["purelib"])
        folder = packages / "tensorflow"
        for name in ("libtensorflow_framework.so.2", "libtensorflow_cc.so.2"):
            self.c = ctypes.CDLL(str(folder / name), mode=ctypes.RTLD_GLOBAL)
        for name, arguments, result in (
            ("TF_NewStatus", [], ctypes.c_void_p),
            ("TF_GetCode", [ctypes.c_void_p], ctypes.c_int),
            ("TF_Message", [ctypes.c_void_p], ctypes.c_char_p),
            ("TF_NewGraph", [], ctypes.c_void_p),
            ("TF_NewSessionOptions", [], ctypes.c_void_p),
            ("TF_LoadLibrary", [ctypes.c_char_p, ctypes.c_void_p], ctypes.c_void_p),
            ("TF_GraphOperationByName", [ctypes.c_void_p, ctypes.c_char_p], ctypes.c_void_p),
            ("TF_TensorData", [ctypes.c_void_p], ctypes.c_void_p),
            ("TF_TensorByteSize", [ctypes.c_void_p], ctypes.c_size_t),
            ("TF_DeleteTensor", [ctypes.c_void_p], None),
            ("TF_StringInit", [ctypes.c_void_p], None),
            (
                "TF_StringCopy",
                [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t],
                None,
            ),
            (
                "TF_AllocateTensor",
                [ctypes.c_int, ctypes.POINTER(ctypes.c_int64), ctypes.c_int, ctypes.c_size_t],
                ctypes.c_void_p,
            ),
            (
                "TF_LoadSessionFromSavedModel",
                [
                    ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p,
                    ctypes.POINTER(ctypes.c_char_p), ctypes.c_int,
                    ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p,
                ],
                ctypes.c_void_p,
            ),
            (
                "TF_SessionRun",
                [
                    ctypes.c_void_p, ctypes.c_void_p,
                    ctypes.POINTER(_Output), ctypes.POINTER(ctypes.c_void_p), ctypes.c_int,
                    ctypes.POINTER(_Output), ctypes.POINTER(ctypes.c_void_p), ctypes.c_int,
                    ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p,
                ],
                None,
            ),
        ):  # fmt: skip
            function = getattr(self.c, name)
            function.argtypes, function.restype = arguments, result
        self.status = self.c.TF_NewStatus()
        for ops in sorted(glob.glob(str(packages / "tensorflow_text" / "python" / "ops" / "*.so"))):
            self.c.TF_LoadLibrary(ops.encode(), self.status)
            self.check()

    def check(self):
        if self.c.TF_GetCode(self.status):
            raise RuntimeError(self.c.TF_Message(self.status).decode())


class CSession:
    """A session with the default signature of an export.

    Args:
        path: the SavedModel's directory.
        names: what `describe` returned for it.
    """

    def __init__(self, path, names):
        library = _Library()
        self._c, self._status, self._check = library.c, library.status, library.check
        names = json.loads(names)
        graph = self._c.TF_NewGraph()
        tags = (ctypes.c_char_p * 1)(b"serve")
        self._session = self._c.TF_LoadSessionFromSavedModel(
            self._c.TF_NewSessionOptions(), None, str(path).encode(), tags, 1, graph, None,
            self._status,
        )  # fmt: skip
        self._check()

        def output_of(name):
            operation, _, index = name.partition(":")
            handle = self._c.TF_GraphOperationByName(graph, operation.encode())
            return _Output(handle, int(index))

        self.inputs = {name: output_of(tensor) for name, tensor in names["inputs"].items()}
        outputs = [output_of(tensor) for tensor in names["outputs"].values()]
        self._outputs = (_Output * len(outputs))(*outputs)

    def _tensor(self, texts):
        shape = (ctypes.c_int64 * 1)(len(texts))
        tensor = self._c.TF_AllocateTensor(TF_STRING, shape, 1, 24 * len(texts))
        data = self._c.TF_TensorData(tensor)
        for index, text in enumerate(texts):
            value = text.encode()
            self._c.TF_StringInit(data + 24 * index)
            self._c.TF_StringCopy(data + 24 * index, value, len(value))
        return tensor

    def run(self, inputs):
        """Answers a request, `{input: list of str}`; returns the bytes of all its outputs."""
        count = len(self.inputs)
        feeds = (_Output * count)(*self.inputs.values())
        tensors = (ctypes.c_void_p * count)(*(self._tensor(inputs[name]) for name in self.inputs))
        results = (ctypes.c_void_p * len(self._outputs))()
        self._c.TF_SessionRun(
            self._session, None, feeds, tensors, count,
            self._outputs, results, len(self._outputs), None, 0, None, self._status,
        )  # fmt: skip
        self._check()
        total = sum(self._c.TF_TensorByteSize(result) for result in results)
        for tensor in (*tensors, *results):
            self._c.TF_DeleteTensor(tensor)
        return total
