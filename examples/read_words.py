from doctr.io import read_img_as_numpy
from doctr.models import recognition_predictor

read = recognition_predictor("clip4str_vn_tiny", pretrained=True)
crop = read_img_as_numpy("examples/pho.png")
print(read([crop])[0][0])
