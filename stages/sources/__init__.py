"""Where tiles come from: Parquet, MedMNIST, a Hugging Face imagefolder, or a folder of images."""
